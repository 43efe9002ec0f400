"""`penchant serve` is stopped or killed in the middle of calls, and started again."""

import asyncio
import contextlib
import itertools
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from penchant.v1.interaction_pb2 import IngestInteractionsRequest

from storage.embedded.postgres import BundledPostgres
from storage.embedded.processes import alive
from tests.service.calls import FILMS, PATIENCE, Caller, batches, calling, ids_of
from tests.service.processes import RunningService, Services, eventually
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

_HELD_CALLS = 6
_HELD_BATCHES = 3


def _data(services: Services) -> Path:
    return services.home / "data"


def _start(
    services: Services, *, workers: int = 2, port: int = 0, **settings: str
) -> RunningService:
    """A service over the data that the module's tests share."""
    options = ("--workers", str(workers))
    return services.start(*options, port=port, PENCHANT_DATA_DIR=str(_data(services)), **settings)


def _all_gone(pids: list[int]) -> None:
    eventually(lambda: not any(map(alive, pids)), "no process left over")


async def _until_draining(service: RunningService, workers: int) -> None:
    async def so() -> bool:
        return sum(line["event"] == "draining" for line in service.events()) == workers

    await until(so)


@contextlib.asynccontextmanager
async def _ingest_held_up(services: Services) -> AsyncIterator[asyncpg.Connection]:
    """No ingest can go on in the block; the connection sees which ones wait."""
    connection = await asyncpg.connect(BundledPostgres(_data(services), durable=True).url())
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE interaction_keys IN EXCLUSIVE MODE")
            yield connection
    finally:
        await connection.close()


async def _until_waiting(connection: asyncpg.Connection, count: int) -> None:
    async def so() -> bool:
        waiting: int = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
        )
        return waiting >= count

    await until(so)


async def _refusal(caller: Caller) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.recommend("late")
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert status.details[0].Unpack(info)
    return caught.value.code(), info.reason


async def test_stop_lets_calls_under_way_end_and_refuses_later_ones(
    module_services: Services,
) -> None:
    service = _start(
        module_services, PENCHANT_JOBS_ENABLED="false", PENCHANT_SHUTDOWN_GRACE_SECS="60"
    )
    members = service.family()
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(service.target)) for _ in range(12)]
        await callers[0].add_films()

        async def stream() -> AsyncIterator[IngestInteractionsRequest]:
            for batch in batches("stream", [50] * _HELD_BATCHES):
                yield batch
            await asyncio.Event().wait()  # a caller that may have more to say

        held = await stack.enter_async_context(_ingest_held_up(module_services))
        likes = [
            asyncio.create_task(caller.like("ann", film, interaction_id=film))
            for caller, film in zip(callers[:_HELD_CALLS], FILMS, strict=False)
        ]
        call = callers[0].interaction.IngestInteractions(stream(), timeout=PATIENCE)
        acked: list[int] = []

        async def read_acks() -> None:
            async for ack in call:
                assert ack.stored_count == 50
                acked.append(ack.sequence)

        reading = asyncio.create_task(read_acks())
        # Calls of one worker are stored together: the first at once, the others when it has waited.
        await _until_waiting(held, _HELD_BATCHES + 1)
        await asyncio.sleep(1)
        service.send(signal.SIGTERM)
        await _until_draining(service, 2)
        for caller in callers:
            assert await _refusal(caller) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert not any(task.done() for task in likes)
        await held.execute("ROLLBACK; BEGIN")
        acks = await asyncio.gather(*likes)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reading
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert acked == list(range(_HELD_BATCHES))
    assert sorted(ack.interaction_id for ack in acks) == FILMS[:_HELD_CALLS]
    assert await asyncio.to_thread(service.wait) == 0
    _all_gone(members)

    again = _start(module_services, workers=1, PENCHANT_JOBS_ENABLED="false")
    async with calling(again.target) as caller:
        assert sorted(await caller.stored("ann")) == FILMS[:_HELD_CALLS]
        assert len(await caller.stored("stream")) == 50 * _HELD_BATCHES
    assert again.stop() == 0


class _Load:
    """Callers that ingest without a pause until the service is gone, and remember the acks."""

    def __init__(self, target: str) -> None:
        self.acked: dict[str, list[str]] = {}
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.said: set[str | None] = set()
        self._target = target

    async def one_by_one(self, user: str) -> None:
        acked = self.acked.setdefault(user, [])
        async with calling(self._target) as caller:
            with self._ended():
                for number in itertools.count():
                    film = FILMS[number % len(FILMS)]
                    ack = await caller.like(user, film, interaction_id=f"{user}-{number}")
                    acked.append(ack.interaction_id)

    async def as_a_stream(self, user: str) -> None:
        acked = self.acked.setdefault(user, [])
        async with calling(self._target) as caller:
            with self._ended():
                call = caller.interaction.IngestInteractions(
                    batches(user, [100] * 10_000), timeout=PATIENCE
                )
                async for ack in call:
                    assert ack.stored_count == 100
                    acked += ids_of(user, ack.sequence, 100)

    async def well_under_way(self) -> bool:
        return min(map(len, self.acked.values()), default=0) >= 3

    @contextlib.contextmanager
    def _ended(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            # grpcio's asyncio client loses the status of a stream that ends under a write (its
            # issue 36066), and its core cancels a call that reaches a server as it closes (see
            # `penchant.channel.service_config`).
            lost = error.details() in {"Internal error from Core", "CANCELLED"}
            self.codes[grpc.StatusCode.UNAVAILABLE if lost else error.code()] += 1
            self.said.add(error.details())


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
async def test_nothing_acknowledged_is_lost(module_services: Services, how: signal.Signals) -> None:
    service = _start(module_services)
    load = _Load(service.target)
    async with calling(service.target) as caller:
        await caller.add_films()
        tasks = [
            *(asyncio.create_task(load.one_by_one(f"{how.name}-{n}")) for n in range(6)),
            *(asyncio.create_task(load.as_a_stream(f"{how.name}-stream-{n}")) for n in range(2)),
        ]
        await until(load.well_under_way)
        members = service.family()
        service.send(how)
        await asyncio.gather(*tasks)
    assert load.codes == {grpc.StatusCode.UNAVAILABLE: len(tasks)}, load.said
    assert await asyncio.to_thread(service.wait) == (0 if how is signal.SIGTERM else -how)

    # At once and on the same port, while what is left of the former service still goes.
    again = _start(module_services, workers=1, port=service.port, PENCHANT_SHUTDOWN_GRACE_SECS="30")
    _all_gone(members)
    async with calling(again.target) as caller:
        for user, acked in load.acked.items():
            stored = Counter(await caller.stored(user))
            assert set(acked) <= set(stored)
            assert set(stored.values()) == {1}
            recommended = {name for name, _ in await caller.scores(user)}
            seen = {FILMS[int(name.rpartition("-")[2]) % len(FILMS)] for name in stored}
            assert not recommended & seen or seen >= set(FILMS)
    assert again.stop() == 0
