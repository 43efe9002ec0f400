"""Rates divided through Redis: by demand, never more than one in sum, and only while it answers."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.rate import RequestRates
from engine.rate_sharing import sharing
from storage.config import RedisCacheConfig
from storage.embedded import EmbeddedServers
from storage.embedded.processes import read_pid
from storage.exceptions import Unavailable
from storage.redis_rates import RedisRates
from tests.engine.test_rate import taken, tenant


def config(url: str) -> RedisCacheConfig:
    return RedisCacheConfig(url=url, operation_timeout_ms=10_000)


@pytest.fixture
async def four(redis_url: str) -> AsyncIterator[list[RedisRates]]:
    """Four workers: two on each of two hosts."""
    workers = [RedisRates(config(redis_url), 2, life_secs=60) for _ in range(4)]
    yield workers
    for worker in workers:
        await worker.close()


async def share(worker: RedisRates, wanted: float, rate: float = 100.0) -> float:
    return (await worker.shares({"a": (rate, wanted)}))["a"]


async def test_only_worker_gets_what_it_wants_and_its_part_of_the_rest(four: list[RedisRates]):
    assert await share(four[0], 0) == pytest.approx(0.5)
    assert await share(four[0], 60) == pytest.approx(0.8)
    assert await share(four[0], 1000) == pytest.approx(1)


async def test_workers_get_the_same_part_of_what_they_want(four: list[RedisRates]):
    wants = [900, 100, 600, 400]
    for _ in range(3):
        shares = [await share(worker, want) for worker, want in zip(four, wants, strict=True)]
    assert shares == pytest.approx([0.45, 0.05, 0.3, 0.2], abs=1e-6)


async def test_shares_never_make_more_than_one_while_demand_shifts(four: list[RedisRates]):
    draw = random.Random(7)
    shares = [0.0] * 4
    for _ in range(300):
        number = draw.randrange(4)
        shares[number] = await share(four[number], draw.choice([0, 1, 30, 200, 1e6]))
        assert sum(shares) <= 1 + 1e-6
        assert min(shares) >= 0


async def test_silent_worker_has_given_its_share_up(redis_url: str):
    both = [RedisRates(config(redis_url), 2, life_secs=4) for _ in range(2)]
    assert await share(both[0], 1000) == pytest.approx(1)
    assert await share(both[1], 1000) == 0
    await asyncio.sleep(4.5)
    assert await share(both[1], 1000) == pytest.approx(1)
    for worker in both:
        await worker.close()


async def test_many_tenants_are_asked_for_at_once_and_do_not_mix(four: list[RedisRates]):
    wanted = {f"t{n}": (10.0, n / 100) for n in range(250)}
    found = await four[0].shares(wanted)
    assert list(found) == list(wanted)
    assert found["t200"] == pytest.approx((2 + 8 / 2) / 10)


async def test_entries_end_by_themselves(redis_url: str):
    worker = RedisRates(config(redis_url), 2, life_secs=0.5)
    await share(worker, 1)
    await worker.close()
    await asyncio.sleep(0.7)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.keys("*") == []


@given(junk=st.binary(max_size=30))
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
async def test_entry_of_anything_else_is_left_out(redis_server: str, junk: bytes):
    worker = RedisRates(config(redis_server), 1)
    async with redis.asyncio.Redis.from_url(redis_server) as client:
        await client.delete("penchant:rate:a")
        await client.hset("penchant:rate:a", "other", junk)
        assert 0 <= await share(worker, 1000) <= 1
    await worker.close()


async def test_redis_that_answers_wrongly_is_unavailable(four: list[RedisRates], redis_url: str):
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set("penchant:rate:a", "a string")
    with pytest.raises(Unavailable):
        await share(four[0], 1)


async def test_redis_that_is_away_is_unavailable_and_then_left_alone():
    worker = RedisRates(config("redis://127.0.0.1:1/0"), 1)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await share(worker, 1)
    begin = time.perf_counter()
    with pytest.raises(Unavailable, match="left alone"):
        await share(worker, 1)
    assert time.perf_counter() - begin < 5
    await worker.close()


async def test_workers_with_redis_take_the_rate_together_wherever_calls_arrive(redis_url: str):
    """Nine in ten calls come to one of two workers: it gets nine tenths, and both the rate."""
    limited = tenant(requests_per_second=200, burst=20)
    both = [RequestRates(2) for _ in range(2)]
    admitted = [0, 0]
    async with (
        sharing(both[0], RedisRates(config(redis_url), 2)),
        sharing(both[1], RedisRates(config(redis_url), 2)),
    ):
        for rates in both:
            taken(rates, limited, 20)
        end, begin, last = time.monotonic() + 3, 0.0, time.monotonic()
        kept_up = 0.0  # seconds, without pauses of a busy machine longer than a burst lasts
        while (now := time.monotonic()) < end:
            if not begin and now > end - 2:
                begin, admitted, kept_up = now, [0, 0], 0.0
            arrived = round((now - last) * 1000)
            kept_up += min(now - last, 0.05) if arrived else 0.0
            last = now if arrived else last
            admitted[0] += taken(both[0], limited, arrived * 9)
            admitted[1] += taken(both[1], limited, arrived)
            await asyncio.sleep(0.01)
    assert sum(admitted) <= 200 * (last - begin) + 20 + 2
    assert sum(admitted) >= 200 * kept_up * 0.7
    assert admitted[0] > 4 * admitted[1]


async def test_frozen_redis_leaves_each_worker_an_equal_share(tmp_path: Path):
    servers = await EmbeddedServers.start(tmp_path, postgres=False, redis=True, durable=False)
    pid = read_pid(tmp_path / "redis.pid")
    assert servers.redis_url is not None
    assert pid is not None
    frozen = RedisCacheConfig(url=servers.redis_url, operation_timeout_ms=50)
    rates = RequestRates(4)
    limited = tenant(requests_per_second=400, burst=400)
    try:
        async with sharing(rates, RedisRates(frozen, 4)):
            await _until(rates, limited, lambda share: share > 0.9)
            os.kill(pid, signal.SIGSTOP)
            await _until(rates, limited, lambda share: share == 0.25)
            os.kill(pid, signal.SIGCONT)
            await _until(rates, limited, lambda share: share > 0.9)
    finally:
        os.kill(pid, signal.SIGCONT)
        await servers.stop()


async def _until(rates: RequestRates, limited, holds) -> None:
    """Asks for more than the rate until the share is as it should be."""
    async with asyncio.timeout(20):
        while True:
            begin = time.perf_counter()
            taken(rates, limited, 50)
            assert time.perf_counter() - begin < 0.1
            if holds(rates._tenants["a"].share):
                return
            await asyncio.sleep(0.02)
