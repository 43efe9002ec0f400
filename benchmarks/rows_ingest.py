"""Rows of ingest: one interaction a call, and batches on a stream."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from penchant.v1 import interaction_pb2 as pb

from benchmarks import generator, references, service
from benchmarks.bench import TENANT, Bench, Goal, Line, Result, compared
from benchmarks.contest import Failed, Figures, Side, contest, middle
from benchmarks.h2load import Work
from benchmarks.processes import cpu_seconds
from benchmarks.rows_recommend import answer_of
from benchmarks.world import World

UNARY = "/penchant.v1.InteractionService/IngestInteraction"
STREAM = "/penchant.v1.InteractionService/IngestInteractions"
BATCH = 1_000

_CALLERS = 64
_WRITERS = 16
_UNACKNOWLEDGED = 4
_STREAM_SECS = 600.0
_COLUMNS = (
    "tenant_id", "interaction_id", "user_id", "entity_type", "entity_id", "interaction_type",
    "weight", "timestamp",
)  # fmt: skip


def unary_bodies(names: Sequence[str]) -> list[bytes]:
    """An interaction each of some users; without an id, it is a new one each time it is sent."""
    bodies = []
    for number in range(_WRITERS):
        request = pb.IngestInteractionRequest()
        request.interaction.user_id = f"writer-{number}"
        request.interaction.entity.entity_type = generator.ENTITY_TYPE
        request.interaction.entity.entity_id = names[number * 7 % len(names)]
        request.interaction.interaction_type = service.INTERACTION_TYPE
        bodies.append(request.SerializeToString())
    return bodies


async def check_durable(world: World) -> None:
    """That an acknowledged interaction outlives a crash.

    Raises:
        Failed: PostgreSQL is set otherwise.
    """
    for setting in ("fsync", "synchronous_commit"):
        if (value := await world.postgres.fetchval(f"SHOW {setting}")) != "on":
            raise Failed(f"PostgreSQL runs with {setting} {value}")


async def stored(world: World, tenant: str) -> int:
    """How many interactions a tenant has."""
    count: int = await world.postgres.fetchval(
        "SELECT count(*) FROM interactions WHERE tenant_id = $1", tenant
    )
    return count


async def unary(bench: Bench) -> Result:
    """One interaction a call, acknowledged after its COMMIT."""
    await bench.catalogue()
    await check_durable(bench.world)
    serving = await bench.world.serve("all")
    caller = bench.world.caller(TENANT)
    bodies = unary_bodies(generator.known_names(bench.form.entities))
    ack = await answer_of(serving, UNARY, bodies[0], caller)
    ours = Side(
        Work(serving.target, UNARY, bodies, _CALLERS, caller),
        (), serving.workers, bench.world.backend_pids, serving.codes,
    )  # fmt: skip
    before = await stored(bench.world, TENANT)
    with references.reference("echo", ack) as bare:
        theirs = Side(Work(bare.target, references.METHOD, bodies, _CALLERS), (), [bare.pid])
        mine, reference = await contest([ours, theirs], bench.plan)
    if (new := await stored(bench.world, TENANT) - before) < mine.calls:
        raise Failed(f"{mine.calls} interactions were acknowledged and {new} are stored")
    lines = compared(mine, reference, Goal(0.35, 0.6))
    return Result(lines, {"ours": mine, "reference": reference})


@dataclass(frozen=True, slots=True)
class Events:
    """Interactions in batches, as the service and as COPY take them."""

    requests: list[bytes]
    records: list[list[tuple[Any, ...]]]


def events(prefix: str, batches: int, users: int, names: Sequence[str]) -> Events:
    """So many batches of interactions that nobody has stored yet."""
    now = datetime.now(UTC).replace(microsecond=0)
    requests, records = [], []
    numbers = itertools.count()
    for sequence in range(batches):
        request = pb.IngestInteractionsRequest(sequence=sequence)
        rows = []
        for number in itertools.islice(numbers, BATCH):
            name, user = f"{prefix}-{number:07}", f"reader-{number * 31 % users}"
            entity = names[number * 17 % len(names)]
            added = request.interactions.add(
                interaction_id=name, user_id=user, interaction_type=service.INTERACTION_TYPE
            )
            added.entity.entity_type, added.entity.entity_id = generator.ENTITY_TYPE, entity
            added.timestamp.FromDatetime(now)
            kind = service.INTERACTION_TYPE
            rows.append(
                (TENANT, f"copy-{name}", user, generator.ENTITY_TYPE, entity, kind, 1.0, now)
            )
        requests.append(request.SerializeToString())
        records.append(rows)
    return Events(requests, records)


async def send(channel: grpc.aio.Channel, metadata: Any, requests: list[bytes]) -> None:
    """Streams batches, a few unacknowledged at a time.

    Raises:
        Failed: a row was refused, or known before.
    """
    places = asyncio.Semaphore(_UNACKNOWLEDGED)

    async def batches() -> AsyncIterator[bytes]:
        for request in requests:
            await places.acquire()
            yield request

    call: Any = channel.stream_stream(STREAM)
    async for answer in call(batches(), metadata=metadata, timeout=_STREAM_SECS):
        places.release()
        said = pb.IngestInteractionsResponse.FromString(answer)
        if said.stored_count != BATCH:
            raise Failed(f"{said.stored_count} rows of a batch were stored: {said.errors[:1]}")


async def copy(world: World, records: list[list[tuple[Any, ...]]]) -> None:
    """The same rows by binary COPY, a transaction a batch as on the stream."""
    for rows in records:
        await world.postgres.copy_records_to_table("interactions", records=rows, columns=_COLUMNS)


async def stream(bench: Bench) -> Result:
    """Batches of 1,000 on one stream."""
    await bench.catalogue()
    await check_durable(bench.world)
    world, form = bench.world, bench.form
    serving = await world.serve("all")
    mine: list[Figures] = []
    reference: list[Figures] = []
    for number in range(bench.plan.rounds + 1):
        prefix = f"{time.time_ns():x}"
        made = events(prefix, form.batches, form.users, generator.known_names(form.entities))
        ours = await _timed(
            bench, serving.workers, send(serving.channel, world.caller(TENANT), made.requests)
        )
        theirs = await _timed(bench, (), copy(world, made.records))
        if number:  # the first warms up
            mine.append(ours)
            reference.append(theirs)
    ours, theirs = middle(mine), middle(reference)
    lines = (
        Line("rows/s", ours.per_second, theirs.per_second, Goal(0.3, 0.5)),
        Line("PostgreSQL CPU ms a row", ours.backend_cpu_ms, theirs.backend_cpu_ms),
    )
    return Result(lines, {"ours": ours, "reference": theirs})


async def _timed(bench: Bench, servers: Any, work: Any) -> Figures:
    rows = bench.form.batches * BATCH
    backends = bench.world.backend_pids()
    cpu, backend_cpu, began = cpu_seconds(servers), cpu_seconds(backends), time.perf_counter()
    await work
    took = time.perf_counter() - began
    return Figures(
        rows / took,
        cpu_ms=(cpu_seconds(servers) - cpu) * 1000 / rows,
        backend_cpu_ms=(cpu_seconds(bench.world.backend_pids()) - backend_cpu) * 1000 / rows,
        calls=rows,
    )
