"""A call that nobody waits for any more does no more work, and gives its connection back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import grpc
import pytest

from engine.single_flight import SingleFlight
from storage.database import Database
from storage.exceptions import Unavailable
from tests.rpc.conftest import Service, running, settings_for
from tests.waiting import until

WORKING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'penchant' AND state <> 'idle'
"""


@pytest.fixture
async def library(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service with a few books."""
    async with running(settings_for(database_url, redis_url, tmp_path)) as service:
        for number in range(3):
            await service.put(f"b{number:02}")
        yield service


@pytest.fixture
async def observer(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the service's."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@asynccontextmanager
async def users_locked(database_url: str) -> AsyncIterator[None]:
    """Every statement that reads a profile waits."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE user_profiles IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


def all_idle(database: Database) -> bool:
    stats = database.pool_stats()
    return stats.size > 0 and stats.size == stats.idle


async def nothing_runs(service: Service, observer: asyncpg.Connection) -> None:
    """The pool is full, PostgreSQL runs nothing for it, and the next call is served."""

    async def so() -> bool:
        return all_idle(service.deps.database) and await observer.fetchval(WORKING) == 0

    await until(so)


async def test_thousand_cancelled_calls_leave_every_connection_free(
    library: Service, observer: asyncpg.Connection, database_url: str
) -> None:
    cancelled = most_running = 0
    async with users_locked(database_url):
        while cancelled < 1000:
            calls = [
                asyncio.create_task(library.recommend(f"user-{cancelled}-{number}"))
                for number in range(50)
            ]
            await asyncio.sleep(0.05)
            most_running = max(most_running, await observer.fetchval(WORKING))
            for call in calls:
                call.cancel()
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(outcome, asyncio.CancelledError):
                    cancelled += 1
                else:
                    # Streams count for a moment after they were cancelled: gRPC refuses more.
                    assert isinstance(outcome, grpc.aio.AioRpcError)
                    assert "RST_STREAM" in (outcome.details() or "")
        assert most_running > 0
        # The lock is still held: what ends here was cancelled, and did not run to its end.
        await nothing_runs(library, observer)
    assert (await library.recommend("ada")).items


async def test_calls_past_their_deadline_leave_every_connection_free(
    library: Service, observer: asyncpg.Connection, database_url: str
) -> None:
    from penchant.v1 import recommendation_pb2

    async def late(number: int) -> grpc.StatusCode:
        request = recommendation_pb2.RecommendRequest(user_id=f"late-{number}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await library.recommendation.Recommend(
                request, metadata=(("x-tenant-id", "a"),), timeout=0.2
            )
        return caught.value.code()

    async with users_locked(database_url):
        codes = await asyncio.gather(*(late(number) for number in range(40)))
        assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await nothing_runs(library, observer)
    assert (await library.recommend("ada")).items


async def test_statement_that_begins_after_its_cancellation_ends_too(
    library: Service, observer: asyncpg.Connection, database_url: str
) -> None:
    """PostgreSQL ignores a cancellation that comes before the statement does."""
    await library.recommend("ada")  # the session is set up: the next statement is the answer's
    sessions = await observer.fetch(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'penchant'"
    )
    async with users_locked(database_url):
        for session in sessions:
            os.kill(session["pid"], signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await library.recommend("late")
            await asyncio.sleep(0.1)  # for the cancellation to arrive
        finally:
            for session in sessions:
                os.kill(session["pid"], signal.SIGCONT)
        await until(lambda: observer.fetchval(f"SELECT ({WORKING}) > 0"))
        await nothing_runs(library, observer)
    assert (await library.recommend("ada")).items


async def test_cancelled_writes_leave_nothing_half_done(
    library: Service, observer: asyncpg.Connection, database_url: str
) -> None:
    async with users_locked(database_url):
        calls = [asyncio.create_task(library.did(f"w{number}", "b00")) for number in range(50)]
        await until(lambda: observer.fetchval(f"SELECT ({WORKING}) > 0"))
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await nothing_runs(library, observer)
    stored = await observer.fetchval("SELECT count(*) FROM interactions WHERE user_id LIKE 'w%'")
    profiles = await observer.fetchval("SELECT count(*) FROM user_profiles WHERE user_id LIKE 'w%'")
    assert stored == profiles == 0


async def test_single_flight_goes_on_for_whoever_still_waits() -> None:
    flights: SingleFlight[int] = SingleFlight()
    go_on, begun = asyncio.Event(), []

    async def work() -> int:
        begun.append(1)
        await go_on.wait()
        return 7

    first, second = (asyncio.create_task(flights.do("k", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go_on.set()
    assert await second == 7
    assert len(begun) == 1


async def test_single_flight_that_nobody_waits_for_is_cancelled_and_begun_anew() -> None:
    flights: SingleFlight[int] = SingleFlight()
    ended = asyncio.Event()

    async def work() -> int:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return 1

    async def other() -> int:
        return 2

    call = asyncio.create_task(flights.do("k", work))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await flights.do("k", other) == 2
    await ended.wait()


async def test_single_flight_gives_an_error_to_all() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await asyncio.sleep(0.01)
        raise Unavailable

    outcomes = await asyncio.gather(
        *(flights.do("k", work) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
