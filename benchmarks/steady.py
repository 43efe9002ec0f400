"""Mixed load at full rate: memory and connections must stay as they are, and no call may fail.

Run as `python -m benchmarks.steady`. Two workers take, all at once and as fast as they can: the
same request again and again, requests that no cache knows, single interactions of the users who are
asked for, and batches on a stream.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.v1 import interaction_pb2, recommendation_pb2
from penchant.v1.common_pb2 import EntityRef
from rich.table import Table

from benchmarks import filling, generator, h2load, service
from benchmarks.alone import alone
from benchmarks.bench import TENANT
from benchmarks.console import Steps, tell
from benchmarks.contest import Failed
from benchmarks.h2load import Work, drive, drive_plan
from benchmarks.processes import memory_mib
from benchmarks.rows_ingest import UNARY, events, send
from benchmarks.rows_recommend import RECOMMEND, request_of
from benchmarks.world import Serving, World, world
from server.logs import configure_logs

GOAL = 1.05
_WORKERS = 2
_HOT_CALLERS = 8
_COLD_CALLERS = 4
_WRITERS = 16
_COLD_BODIES = 5_000
_SAMPLE_SECS = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service held at a time: MiB of all workers, and connections to PostgreSQL."""

    at: float
    memory_mib: float
    connections: int


def thirds(samples: Sequence[Sample]) -> dict[str, Any]:
    """The verdict over a run: the last third's memory beside the second's, and its connections."""
    size = len(samples) // 3
    second, last = samples[size : 2 * size], samples[2 * size :]
    memory = [statistics.median(s.memory_mib for s in part) for part in (second, last)]
    counts = [s.connections for s in last]
    return {
        "memory_second_mib": memory[0],
        "memory_last_mib": memory[1],
        "memory_ratio": memory[1] / memory[0],
        "connections_least": min(counts),
        "connections_most": max(counts),
        "flat": memory[1] <= GOAL * memory[0],
        "constant": min(counts) == max(counts),
    }


def cold_calls(users: list[str], caller: h2load.Metadata) -> list[list[Any]]:
    """Requests that miss every cache: each excludes a name that does not exist."""
    calls = []
    for number in range(_COLD_BODIES):
        missing = EntityRef(entity_type=generator.ENTITY_TYPE, entity_id=f"no-such-{number}")
        request = recommendation_pb2.RecommendRequest(
            user_id=users[number % len(users)], exclude=[missing]
        )
        calls.append([b64encode(request.SerializeToString()).decode(), caller])
    return calls


def likes(users: list[str]) -> list[bytes]:
    """An interaction of each of some users."""
    bodies = []
    for number, user in enumerate(users[:_WRITERS]):
        request = interaction_pb2.IngestInteractionRequest()
        request.interaction.user_id = user
        request.interaction.entity.entity_type = generator.ENTITY_TYPE
        request.interaction.entity.entity_id = generator.name(number)
        request.interaction.interaction_type = service.INTERACTION_TYPE
        bodies.append(request.SerializeToString())
    return bodies


async def load(made: World, serving: Serving, users: list[str], seconds: float) -> dict[str, int]:
    """All kinds of calls at once; how many of each ended.

    Raises:
        Failed: one failed.
    """
    caller = made.caller(TENANT)
    hot = Work(
        serving.target, RECOMMEND, [request_of(users[0])], _HOT_CALLERS, caller, 4, core=None
    )
    ingest = Work(serving.target, UNARY, likes(users), _WRITERS, caller, core=None)
    cold: dict[str, Any] = {
        "target": serving.target,
        "method": RECOMMEND,
        "calls": cold_calls(users, caller),
        "callers": _COLD_CALLERS,
        "connections": _COLD_CALLERS,
        "seconds": seconds,
    }
    before = await serving.codes()
    made_calls = await asyncio.gather(
        drive(hot, seconds),
        drive_plan(cold, None),
        drive(ingest, seconds),
        _batches(made, serving, seconds),
    )
    after = await serving.codes()
    bad = {
        code: count - before.get(code, 0.0)
        for code, count in after.items()
        if code not in {"OK", "CANCELLED"} and count > before.get(code, 0.0)
    }
    if bad or any(calls.failed for calls in made_calls[:3]):
        raise Failed(f"calls ended with {bad}")
    kinds = ("hot", "cold", "ingest")
    counts = {kind: len(calls.took_ms) for kind, calls in zip(kinds, made_calls[:3], strict=True)}
    return {**counts, "rows of batches": made_calls[3]}


async def _batches(made: World, serving: Serving, seconds: float) -> int:
    """Some batches a second on a stream after the other; how many rows."""
    end = time.monotonic() + seconds
    rows = 0
    names = generator.known_names(generator.KNOWN)
    for turn in itertools.count():
        if time.monotonic() >= end:
            return rows
        name = f"{time.time_ns():x}-{turn}"
        ready = await asyncio.to_thread(events, name, 2, 2_000, names)
        await send(serving.channel, made.caller(TENANT), ready.requests)
        rows += 2_000
        await asyncio.sleep(1.0)
    raise AssertionError("unreachable")


async def watch(made: World, serving: Serving, samples: list[Sample]) -> None:
    """Samples until it is cancelled."""
    began = time.monotonic()
    while True:
        count = await made.postgres.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penchant'"
        )
        at = time.monotonic() - began
        samples.append(Sample(at, memory_mib(serving.workers), count))
        await asyncio.sleep(_SAMPLE_SECS)


async def run(arguments: argparse.Namespace, directory: Path, steps: Steps) -> dict[str, Any]:
    """Fills, loads and watches."""
    async with world(directory, steps) as made:
        users = await filling.catalogue(
            made, TENANT, arguments.entities, dimension=arguments.dimension, users=2_000
        )
        serving = await made.serve("all", _WORKERS)
        samples: list[Sample] = []
        watching = asyncio.create_task(watch(made, serving, samples))
        try:
            with steps.step("load", 1):
                counts = await load(made, serving, users, arguments.seconds)
        finally:
            watching.cancel()
        if serving.workers != made.workers():
            raise Failed("a worker died")
    return {
        **thirds(samples),
        "calls": counts,
        "samples": [[s.at, s.memory_mib, s.connections] for s in samples],
    }


def report(result: dict[str, Any]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table("figure", "value", "goal", "met")
    flat, constant = ("yes" if result[name] else "no" for name in ("flat", "constant"))
    for kind, count in result["calls"].items():
        table.add_row(kind, f"{count:,}", "", "")
    table.add_row("memory of the workers, second third", f"{result['memory_second_mib']:.1f} MiB")
    table.add_row("memory of the workers, last third", f"{result['memory_last_mib']:.1f} MiB")
    table.add_row("last of second", f"{result['memory_ratio']:.3f}", f"<= {GOAL}", flat)
    least, most = result["connections_least"], result["connections_most"]
    table.add_row(
        "connections to PostgreSQL, last third", f"{least} to {most}", "constant", constant
    )
    tell("steady", table, result)


def main() -> None:
    """Runs and reports; fails when a call failed, not when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steady", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--entities", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder to fill once and take again")
    arguments = parser.parse_args()
    configure_logs("json", "info")
    with alone("steady", arguments.keep) as (directory, console):
        result = asyncio.run(run(arguments, directory, Steps(console)))
    report(result)


if __name__ == "__main__":
    main()
