"""Redis is killed, emptied, frozen, full, slow, sick or replaced: no answer fails or is wrong."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from prometheus_client import REGISTRY

from storage.config import RedisCacheConfig
from storage.redis_cache import RedisCache
from tests.faults.backends import Backends
from tests.faults.conftest import socket_of
from tests.faults.proxy import Proxy, proxied
from tests.rpc.conftest import Service, running, settings_for
from tests.service.processes import frozen
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

READERS = [f"reader-{number}" for number in range(4)]
BOOKS = [f"b{number:02}" for number in range(16)]
FAULT_SECS = 1.5
OPENING_SECS = 0.25 + 3.0
"""Longest answer while the breaker opens, with what a busy machine may add."""

Answer = list[tuple[str, float]]
Fault = Callable[["World"], AbstractAsyncContextManager[None]]


@dataclass
class World:
    """A service whose Redis is reached through a proxy."""

    service: Service
    backends: Backends
    proxy: Proxy
    liked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(READERS, 1))

    async def answer(self, reader: str) -> Answer:
        answer = await self.service.recommend(reader, page_size=50)
        assert not answer.degraded
        return [(item.entity.entity_id, item.score) for item in answer.items]

    async def truth(self, reader: str) -> Answer:
        """What is right now, by a request that no cache can know."""
        self.truths = getattr(self, "truths", 0) + 1
        answer = await self.service.recommend(
            reader, page_size=50, exclude=[{"entity_type": "x", "entity_id": str(self.truths)}]
        )
        return [(item.entity.entity_id, item.score) for item in answer.items]

    async def like(self, reader: str) -> None:
        """The reader likes one more book, which changes all that is right."""
        self.liked[reader] += 1
        await self.service.did(reader, BOOKS[self.liked[reader] % len(BOOKS)])


@pytest.fixture
async def world(broken_url: str, backends: Backends, tmp_path: Path) -> AsyncIterator[World]:
    """Readers with different tastes, of whom each was answered once."""
    async with proxied(socket_of(backends.redis_url)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        settings = settings_for(broken_url, url, tmp_path)
        # As in production; only the first connection has more time.
        cache = RedisCacheConfig(url=url, connect_timeout_ms=200)
        async with running(
            settings.model_copy(update={"cache": cache, "wire_cache_bytes": 0})
        ) as service:
            world = World(service, backends, proxy)
            for number, entity_id in enumerate(BOOKS):
                await service.put(entity_id, genre=f"g{number % 4}", year=1950 + number)
            for number, reader in enumerate(READERS):
                await service.did(reader, BOOKS[number])
                await world.answer(reader)
            yield world


@asynccontextmanager
async def killed(world: World) -> AsyncIterator[None]:
    os.kill(world.backends.redis, signal.SIGKILL)
    yield
    await world.backends.start_again()


@asynccontextmanager
async def flushed(world: World) -> AsyncIterator[None]:
    with redis.Redis.from_url(world.backends.redis_url) as client:
        client.flushall()
    yield


@asynccontextmanager
async def frozen_process(world: World) -> AsyncIterator[None]:
    with frozen(world.backends.redis):
        yield


@asynccontextmanager
async def out_of_memory(world: World) -> AsyncIterator[None]:
    with redis.Redis.from_url(world.backends.redis_url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1kb")
        yield
        client.config_set("maxmemory", "256mb")
        client.config_set("maxmemory-policy", "allkeys-lru")


@asynccontextmanager
async def slow(world: World) -> AsyncIterator[None]:
    world.proxy.delay_secs = 0.2
    yield
    world.proxy.delay_secs = 0.0


@asynccontextmanager
async def cut_off(world: World) -> AsyncIterator[None]:
    world.proxy.refuse()
    yield
    await world.proxy.start()


@asynccontextmanager
async def black_hole(world: World) -> AsyncIterator[None]:
    world.proxy.freeze()
    yield
    world.proxy.thaw()


def answering(answer: bytes) -> Fault:
    @asynccontextmanager
    async def sick(world: World) -> AsyncIterator[None]:
        world.proxy.answer = lambda _: answer
        yield
        world.proxy.answer = None
        world.proxy.cut()

    return sick


@asynccontextmanager
async def replaced(world: World) -> AsyncIterator[None]:
    """Another Redis answers, which knows nothing."""
    with redis.Redis.from_url(world.backends.redis_url) as client:
        client.swapdb(0, 9)
    world.proxy.cut()
    yield


FAULTS: dict[str, Fault] = {
    "killed": killed,
    "flushed": flushed,
    "frozen": frozen_process,
    "out of memory": out_of_memory,
    "slow": slow,
    "cut off": cut_off,
    "black hole": black_hole,
    "errors": answering(b"-MISCONF cannot write\r\n"),
    "garbage": answering(b"\x00\xff{}garbage\r\n"),
    "another's answers": answering(b"$5\r\nhello\r\n"),
    "replaced": replaced,
}
LEFT_ALONE = {"killed", "frozen", "slow", "cut off", "black hole", "errors", "garbage"}
"""Faults that open the breaker."""


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def is_open() -> bool:
    return metric("penchant_breaker_open", component="redis") == 1


async def timed(work: Awaitable[Answer]) -> tuple[Answer, float]:
    begun = time.perf_counter()
    return await work, time.perf_counter() - begun


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_redis_in_trouble_makes_no_answer_wrong(
    world: World, fault: Fault, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    opened = metric("penchant_breaker_changes_total", component="redis", state="open")
    async with fault(world):
        end = time.monotonic() + FAULT_SECS
        while time.monotonic() < end:
            for reader in READERS:
                answer, seconds = await timed(world.answer(reader))
                assert seconds < OPENING_SECS
                assert answer == await world.truth(reader)
            await world.like(READERS[0])
            assert await world.answer(READERS[0]) == await world.truth(READERS[0])
        if name in LEFT_ALONE:
            changes = metric("penchant_breaker_changes_total", component="redis", state="open")
            assert changes > opened
    await until(lambda: not is_open())
    for reader in READERS:
        assert await world.answer(reader) == await world.truth(reader)
    hits = metric("penchant_result_cache_total", outcome="hit")

    async def cached() -> bool:
        await world.answer(READERS[1])
        return metric("penchant_result_cache_total", outcome="hit") > hits

    await until(cached)


async def test_slow_redis_is_waited_for_only_until_the_breaker_opens(world: World) -> None:
    quick = [seconds for _ in range(20) for _, seconds in [await timed(world.truth("nobody"))]]
    async with slow(world):
        await until_open(world)
        times = []
        for _ in range(20):
            times.append((await timed(world.answer(READERS[1])))[1])
        assert is_open()
    # 200 ms of Redis would show; a try of the background does not.
    assert sorted(times)[10] < sorted(quick)[10] + 0.1


async def until_open(world: World) -> None:
    for _ in range(10):
        await world.answer(READERS[0])
        if is_open():
            return
    raise AssertionError("the breaker stays closed")


def _patient(url: str) -> RedisCacheConfig:
    return RedisCacheConfig(url=url, operation_timeout_ms=10_000, connect_timeout_ms=10_000)


@pytest.mark.parametrize("kind", ["of another key", "damaged", "cut off"])
async def test_value_that_is_not_the_keys_own_is_a_miss(
    backends: Backends, broken_url: str, kind: str
) -> None:
    cache = RedisCache(_patient(backends.redis_url))
    await cache.set("mine", b"x" * 50)
    with redis.Redis.from_url(backends.redis_url) as client:
        client.rename("mine", "yours")
        if kind != "of another key":
            await cache.set("yours", b"x" * 50)
            sealed = client.get("yours")
            assert await cache.get("yours") == b"x" * 50
            damaged = sealed[:-1] + (b"y" if kind == "damaged" else b"")
            client.set("yours", damaged)
    errors = metric("penchant_result_cache_total", outcome="error")
    assert await cache.get("yours") is None
    assert metric("penchant_result_cache_total", outcome="error") == errors + 1
    await cache.close()


async def test_call_cancelled_in_a_look_up_leaves_no_answer_behind(
    backends: Backends, broken_url: str
) -> None:
    async with proxied(socket_of(backends.redis_url)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        cache = RedisCache(_patient(url))
        for key in "ab":
            await cache.set(key, key.encode())
        proxy.freeze()
        look_up = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0.05)
        look_up.cancel()
        await asyncio.gather(look_up, return_exceptions=True)
        proxy.thaw()
        assert await cache.get("b") == b"b"
        await cache.close()
