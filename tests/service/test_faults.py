"""Redis and PostgreSQL are killed, stopped, emptied or frozen under a service that runs."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
import pytest_asyncio
import redis
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.faults.backends import Backends
from tests.service.calls import FILMS, Caller, calling
from tests.service.processes import (
    RunningService,
    Services,
    children_of,
    eventually,
    frozen,
)

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

USERS = [f"reader-{number}" for number in range(8)]
INTERACTIONS = "penchant.v1.InteractionService"


@pytest.fixture(scope="module")
def backends(module_services: Services) -> Iterator[Backends]:
    servers = Backends(module_services.home / "backends")
    with asyncio.Runner() as loop:
        loop.run(servers.start())
        yield servers
        loop.run(servers.stop())


@pytest.fixture(scope="module")
def service(module_services: Services, backends: Backends) -> Iterator[RunningService]:
    """One worker, and no jobs that would change what is trending between two answers."""
    running = module_services.start(
        DATABASE_URL=backends.database_url,
        REDIS_URL=backends.redis_url,
        PENCHANT_JOBS_ENABLED="false",
    )
    yield running
    running.close()


@pytest_asyncio.fixture
async def caller(service: RunningService) -> AsyncIterator[Caller]:
    """A caller of a service that is well and knows what the readers like."""
    async with calling(service.target) as caller:
        await caller.until_serving(INTERACTIONS)
        await caller.add_films()
        for number, user in enumerate(USERS):
            for film in FILMS[number : number + 6]:
                await caller.like(user, film, interaction_id=f"{user}-{film}")
        yield caller


Answers = dict[str, list[tuple[str, float]]]


async def _answers(caller: Caller) -> tuple[Answers, float]:
    """What every reader is told, and the median time of a call."""
    answers, times = {}, []
    for user in USERS:
        begin = time.perf_counter()
        answers[user] = await caller.scores(user)
        times.append(time.perf_counter() - begin)
    return answers, statistics.median(times)


def _until_redis_is(service: RunningService, state: str) -> None:
    """Waits until the service's log says last that Redis is "away" or "back"."""

    def so() -> bool:
        said = [event["event"] for event in service.events() if event.get("component") == "redis"]
        return said[-1:] == [f"component is {state}"]

    eventually(so, f"Redis is {state}")


async def test_flushed_redis_changes_no_answer(caller: Caller, backends: Backends) -> None:
    before, _ = await _answers(caller)
    with redis.Redis.from_url(backends.redis_url) as client:
        # Answers go there after they have left.
        eventually(lambda: client.dbsize() > 0, "answers in Redis")
        client.flushall()
    after, _ = await _answers(caller)
    assert after == before


async def test_killed_redis_changes_no_answer(
    caller: Caller, backends: Backends, service: RunningService
) -> None:
    before, _ = await _answers(caller)
    os.kill(backends.redis, signal.SIGKILL)
    without, _ = await _answers(caller)
    _until_redis_is(service, "away")
    await caller.until_serving("")
    await caller.until_serving(INTERACTIONS)
    await backends.start_again()
    _until_redis_is(service, "back")
    after, _ = await _answers(caller)
    assert after == without == before


async def test_frozen_redis_changes_no_answer_and_costs_little(
    caller: Caller, backends: Backends
) -> None:
    with redis.Redis.from_url(backends.redis_url) as client:
        client.flushall()
    before, computed = await _answers(caller)
    await _answers(caller)
    with frozen(backends.redis):
        frozen_answers, _ = await _answers(caller)  # until the breaker opens
        again, left_alone = await _answers(caller)
    assert frozen_answers == again == before
    assert left_alone < 5 * computed + 0.05


async def test_thawed_redis_brings_no_older_answer_back(
    caller: Caller, backends: Backends, service: RunningService
) -> None:
    before, _ = await _answers(caller)
    news = {user: FILMS[-1 - number] for number, user in enumerate(USERS)}
    assert all(news[user] in dict(before[user]) for user in USERS)
    with frozen(backends.redis):
        for user, film in news.items():
            await caller.like(user, film, interaction_id=f"{user}-{film}")
        meanwhile, _ = await _answers(caller)
        _until_redis_is(service, "away")
    for _ in range(3):
        thawed, _ = await _answers(caller)
        assert thawed == meanwhile
    _until_redis_is(service, "back")
    after, _ = await _answers(caller)
    assert after == meanwhile
    assert not any(film in dict(after[user]) for user, film in news.items())


async def _refusal(caller: Caller, deadline: float) -> tuple[grpc.StatusCode, str]:
    """The code and reason of an ingest that cannot be stored; it must not outlast its deadline."""
    begin = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.like("ann", FILMS[0], deadline=deadline)
    assert time.monotonic() - begin < deadline + 5
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    if status is not None:
        assert status.details[0].Unpack(info)
    return caught.value.code(), info.reason


AWAY = (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
OVERDUE = (grpc.StatusCode.DEADLINE_EXCEEDED, "")  # the caller's own clock: no details


async def test_ingest_is_refused_at_once_while_postgres_is_stopped(
    caller: Caller, backends: Backends
) -> None:
    before, _ = await _answers(caller)
    os.kill(backends.postgres, signal.SIGINT)
    await caller.until_serving(INTERACTIONS, serving=False)
    for _ in range(10):
        assert await _refusal(caller, deadline=20) == AWAY
    await backends.start_again()
    await caller.until_serving(INTERACTIONS)
    await caller.like("ann", FILMS[0])
    after, _ = await _answers(caller)
    assert after == before


@pytest.mark.slow
async def test_ingest_is_refused_in_time_while_postgres_is_frozen(
    caller: Caller, backends: Backends
) -> None:
    before, _ = await _answers(caller)
    with frozen(backends.postgres), frozen(*children_of(backends.postgres)):
        refusals = [await _refusal(caller, deadline=2)]
        await caller.until_serving(INTERACTIONS, serving=False)
        assert await caller.serving()
        meanwhile = await caller.recommend(USERS[0])
        assert list(meanwhile.degraded) == ["postgresql"]
        assert [(item.entity.entity_id, item.score) for item in meanwhile.items] == before[USERS[0]]
        # Calls that got an open connection end with their deadline, the others sooner.
        async with asyncio.timeout(60):
            while refusals[-1] != AWAY:
                refusals.append(await _refusal(caller, deadline=4))
    assert set(refusals) <= {AWAY, OVERDUE}
    await caller.until_serving(INTERACTIONS)
    await caller.like("ann", FILMS[0])
    after, _ = await _answers(caller)
    assert after == before
