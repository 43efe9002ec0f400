"""One connection to Redis for many callers: replies go to who asked, and trouble stays small."""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import uvloop
from prometheus_client import REGISTRY
from redis.exceptions import RedisError, ResponseError

from storage import redis_lane
from storage.config import RedisCacheConfig
from storage.embedded import EmbeddedServers
from storage.embedded.processes import read_pid
from storage.redis_cache import RedisCache
from storage.redis_lane import Lane
from tests.faults.conftest import socket_of
from tests.faults.proxy import proxied
from tests.service.certificates import Authority
from tests.service.processes import frozen
from tests.waiting import until

BOTH_LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
"""The tests' own and the workers', which take timers, sockets and callbacks in another order."""


@asynccontextmanager
async def opened(url: str, answer_secs: float = 10, connect_secs: float = 10) -> Any:
    lane = Lane(url, answer_secs=answer_secs, connect_secs=connect_secs)
    try:
        yield lane
    finally:
        await lane.close()


@asynccontextmanager
async def caching(url: str, **settings: Any) -> AsyncIterator[RedisCache]:
    patient = {"operation_timeout_ms": 10_000, "connect_timeout_ms": 10_000}
    cache = RedisCache(RedisCacheConfig(url=url, **(patient | settings)))
    try:
        yield cache
    finally:
        await cache.close()


@pytest.fixture
async def lane(redis_url: str) -> AsyncIterator[Lane]:
    async with opened(redis_url) as made:
        yield made


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """Another client of the same Redis."""
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[tuple[str, int]]:
    """URL and process of a Redis that may be frozen."""
    servers = await EmbeddedServers.start(tmp_path, postgres=False, redis=True, durable=False)
    pid = read_pid(tmp_path / "redis.pid")
    assert servers.redis_url is not None
    assert pid is not None
    yield servers.redis_url, pid
    await servers.stop()


def errors() -> float:
    return REGISTRY.get_sample_value("penchant_result_cache_total", {"outcome": "error"}) or 0.0


@BOTH_LOOPS
def test_replies_go_to_who_asked_whoever_is_cancelled(redis_url: str, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(many_callers(redis_url))


async def many_callers(url: str) -> None:
    draw = random.Random(3)

    async def caller(lane: Lane, number: int) -> None:
        for turn in range(20):
            name = b"k%d" % draw.randrange(40)
            if draw.random() < 0.4:
                assert await lane.ask(b"SET", name, name + b"x" * draw.randrange(9000)) == b"OK"
            else:
                found = await lane.ask(b"GET", name)
                assert found is None or found.rstrip(b"x") == name
            assert await lane.ask(b"ECHO", b"%d-%d" % (number, turn)) == b"%d-%d" % (number, turn)

    async with opened(url) as lane:
        callers = [asyncio.create_task(caller(lane, number)) for number in range(200)]
        for doomed in draw.sample(callers, 80):
            await asyncio.sleep(draw.choice([0, 0, 0.001]))
            doomed.cancel()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert outcomes.count(None) >= 120


async def test_commands_of_one_turn_go_out_in_one_write(lane: Lane, client: Any) -> None:
    await lane.ask(b"PING")
    before = client.info("stats")["total_reads_processed"]
    await asyncio.gather(*(lane.ask(b"GET", b"k%d" % number) for number in range(200)))
    # One is the question itself.
    assert client.info("stats")["total_reads_processed"] - before <= 4


async def test_redis_py_still_has_the_transport_that_the_lane_takes(redis_url: str) -> None:
    connection = redis.asyncio.ConnectionPool.from_url(redis_url, protocol=2).make_connection()
    await connection.connect()
    assert redis_lane._transport_of(connection).get_protocol() is not None
    assert not await connection.can_read()
    await connection.disconnect()


async def test_calls_share_one_attempt_to_connect(redis_url: str) -> None:
    async with proxied(socket_of(redis_url)) as proxy:
        async with opened(f"redis://127.0.0.1:{proxy.port}/0") as lane:
            assert await asyncio.gather(*(lane.ask(b"PING") for _ in range(50))) == [b"PONG"] * 50
        assert proxy.connections == 1


async def test_connection_killed_while_idle_costs_nothing(redis_url: str, client: Any) -> None:
    failed = errors()
    async with caching(redis_url) as cache:
        await cache.set("a", b"b")
        for _ in range(5):
            client.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: cache._lane._link.broken)
            assert await cache.get("a") == b"b"
    assert errors() == failed


async def test_connection_that_is_killed_fails_those_that_wait(lane: Lane, client: Any) -> None:
    waiting = [lane.ask(b"BLPOP", b"nothing", b"0"), lane.ask(b"PING")]
    await until(lambda: client.info("clients")["blocked_clients"] > 0)
    client.client_kill_filter(_type="normal", skipme=True)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, RedisError) for outcome in outcomes)
    assert await lane.ask(b"PING") == b"PONG"


async def test_killed_connection_is_one_miss_of_the_cache(redis_url: str) -> None:
    failed = errors()
    async with (
        proxied(socket_of(redis_url)) as proxy,
        caching(f"redis://127.0.0.1:{proxy.port}/0") as cache,
    ):
        await cache.set("a", b"b")
        proxy.freeze()
        asked = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0.05)
        proxy.cut()
        assert await asked is None
        proxy.thaw()
        assert await cache.get("a") == b"b"
    assert errors() == failed + 1


async def test_frozen_redis_is_waited_for_only_so_long(own_redis: tuple[str, int]) -> None:
    url, pid = own_redis
    failed = errors()
    async with caching(url, operation_timeout_ms=500) as cache:
        await cache.set("a", b"b")
        with frozen(pid):
            begun = time.perf_counter()
            assert await cache.get("a") is None
            assert 0.4 <= time.perf_counter() - begun < 5
        assert errors() == failed + 1
        assert await cache.get("a") == b"b"


async def test_all_that_wait_for_a_frozen_redis_fail_alike(own_redis: tuple[str, int]) -> None:
    url, pid = own_redis
    async with opened(url, answer_secs=0.5) as lane:
        await lane.ask(b"PING")
        with frozen(pid):
            waiting = [lane.ask(b"GET", b"a") for _ in range(20)]
            waiting[3].cancel()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert isinstance(outcomes.pop(3), asyncio.CancelledError)
            assert all(isinstance(outcome, TimeoutError) for outcome in outcomes)
        assert await lane.ask(b"PING") == b"PONG"


@BOTH_LOOPS
@pytest.mark.parametrize("age_secs", [0, 0.05, 0.12])
def test_pause_of_the_process_is_not_taken_for_one_of_redis(
    redis_url: str, age_secs: float, loop: Any
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(pause(redis_url, age_secs))


async def pause(redis_url: str, age_secs: float) -> None:
    async with opened(redis_url, answer_secs=1) as lane:
        await lane.ask(b"PING")
        asked = lane.ask(b"BLPOP", b"nothing", b"%.2f" % (age_secs + 0.08))
        if age_secs:
            await asyncio.sleep(age_secs)
        time.sleep(1.5)  # noqa: ASYNC251 - that the loop stands still is the test
        assert await asked is None


async def test_steady_calls_are_never_overdue(redis_url: str) -> None:
    async with proxied(socket_of(redis_url)) as proxy:
        async with opened(f"redis://127.0.0.1:{proxy.port}/0", answer_secs=2) as lane:
            await lane.ask(b"PING")
            proxy.delay_secs = 0.5
            waiting = []
            for number in range(60):
                waiting.append(lane.ask(b"ECHO", b"%d" % number))
                await asyncio.sleep(0.05)
            assert await asyncio.gather(*waiting) == [b"%d" % number for number in range(60)]
        assert proxy.connections == 1


async def test_error_reply_fails_its_own_command_only(lane: Lane, client: Any) -> None:
    client.rpush("list", "a")
    client.set("a", "b")
    first = await lane.ask(b"CLIENT", b"ID")
    outcomes = await asyncio.gather(
        lane.ask(b"GET", b"a"),
        lane.ask(b"GET", b"list"),
        lane.ask(b"AUTH", b"nobody", b"wrong"),
        lane.ask(b"GET", b"a"),
        return_exceptions=True,
    )
    assert outcomes[0] == outcomes[3] == b"b"
    assert isinstance(outcomes[1], ResponseError)
    assert isinstance(outcomes[2], ResponseError)
    assert await lane.ask(b"CLIENT", b"ID") == first


async def test_key_of_another_type_is_a_miss(redis_url: str, client: Any) -> None:
    failed = errors()
    client.rpush("list", "a")
    async with caching(redis_url) as cache:
        await cache.set("a", b"b")
        assert await asyncio.gather(*map(cache.get, ["a", "list", "a"])) == [b"b", None, b"b"]
    assert errors() == failed + 1


async def test_what_the_url_says_is_honoured(redis_url: str, client: Any) -> None:
    client.execute_command("ACL", "SETUSER", "ann", "on", ">p@ss:w/rd", "~*", "+@all")
    try:
        path = socket_of(redis_url)
        options = "db=5&protocol=3&decode_responses=true&socket_timeout=0.0001"
        async with caching(f"unix://ann:p%40ss%3Aw%2Frd@{path}?{options}") as cache:
            await cache.set("a", b"b")
            assert await cache.get("a") == b"b"
        async with opened(f"unix://ann:p%40ss%3Aw%2Frd@{path}?{options}") as lane:
            assert await lane.ask(b"ACL", b"WHOAMI") == b"ann"
            assert await lane.ask(b"EXISTS", b"a") == 1
        assert client.exists("a") == 0
        async with opened(f"unix://ann:wrong@{path}") as lane:
            with pytest.raises(RedisError, match="invalid username-password"):
                await lane.ask(b"PING")
    finally:
        client.execute_command("ACL", "DELUSER", "ann")


async def test_redis_behind_tls(redis_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    served: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        ours, theirs = await asyncio.open_unix_connection(socket_of(redis_url))
        await asyncio.gather(copy(reader, theirs), copy(ours, writer))
        await asyncio.gather(theirs.wait_closed(), writer.wait_closed())

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}"
    async with caching(url) as cache:
        await asyncio.gather(*(cache.set(str(n), bytes(n)) for n in range(0, 60_000, 3000)))
        found = await asyncio.gather(*(cache.get(str(n)) for n in range(0, 60_000, 3000)))
        assert [len(value or b"") for value in found] == list(range(0, 60_000, 3000))
    await asyncio.gather(*served)
    server.close()
    await server.wait_closed()


async def test_redis_that_is_away_fails_all_that_wait_for_it(tmp_path: Path) -> None:
    async with opened(f"unix://{tmp_path}/none.sock") as lane:
        for _ in range(2):
            waiting = [lane.ask(b"PING") for _ in range(3)]
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(outcome, (RedisError, OSError)) for outcome in outcomes)


async def test_handshake_that_never_ends_is_given_up(redis_url: str) -> None:
    async with proxied(socket_of(redis_url)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(url, connect_secs=2) as lane:
            proxy.freeze()
            begun = time.perf_counter()
            with pytest.raises((RedisError, TimeoutError)):
                await lane.ask(b"PING")
            assert time.perf_counter() - begun < 15
            proxy.thaw()
            assert await lane.ask(b"PING") == b"PONG"


async def test_what_waits_to_be_written_is_bounded(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_lane, "UNSENT_BYTES", 1 << 20)
    value = bytes(1 << 19)
    waiting = [lane.ask(b"SET", b"k%d" % number, value) for number in range(2)]
    with pytest.raises(RedisError, match="too much"):
        lane.ask(b"SET", b"k", value)
    assert await asyncio.gather(*waiting) == [b"OK"] * 2
    for number in range(20):
        assert await lane.ask(b"SET", b"k%d" % number, value) == b"OK"


@pytest.mark.parametrize("size", [0, 1, 131_051, 131_052, 131_053, 3_000_000])
async def test_value_of_any_size_comes_back(redis_url: str, size: int) -> None:
    async with caching(redis_url) as cache:
        value = random.Random(size).randbytes(size)
        assert await cache.get("a") is None
        await cache.set("a", value, 60)
        assert await cache.get("a") == value


async def test_renewed_connection_leaves_nobody_without_a_reply(lane: Lane, client: Any) -> None:
    first = await lane.ask(b"CLIENT", b"ID")
    waiting = [lane.ask(b"ECHO", b"%d" % number) for number in range(20)]
    lane.renew()
    second = await lane.ask(b"CLIENT", b"ID")
    assert await asyncio.gather(*waiting) == [b"%d" % number for number in range(20)]
    assert second != first
    lane.renew()
    third = await lane.ask(b"CLIENT", b"ID")

    def alone() -> bool:
        return {int(c["id"]) for c in client.client_list()} & {first, second, third} == {third}

    await until(alone)


async def test_reply_to_nothing_ends_the_connection(redis_url: str) -> None:
    async with proxied(socket_of(redis_url)) as proxy:
        async with opened(f"redis://127.0.0.1:{proxy.port}/0") as lane:
            await lane.ask(b"PING")
            link = lane._link
            proxy.answer = lambda _: b"+A\r\n+B\r\n"
            assert await lane.ask(b"PING") == b"A"
            proxy.answer = None
            await asyncio.wait([link.task])
            assert await lane.ask(b"PING") == b"PONG"
        assert proxy.connections == 2


@pytest.mark.parametrize("moment", ["not connected", "connecting", "waiting", "left"])
async def test_closing_leaves_nothing_behind(lane: Lane, moment: str) -> None:
    if moment in {"waiting", "left"}:
        await lane.ask(b"PING")
    waiting = [lane.ask(b"BLPOP", b"nothing", b"0") for _ in range(3)]
    if moment != "not connected":
        await asyncio.sleep(0)
    if moment == "left":
        lane.renew()
    tasks = [link.task for link in lane._links]
    assert tasks
    await lane.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, RedisError) for outcome in outcomes)
    assert all(task.done() for task in tasks)
    assert len(asyncio.all_tasks()) == 1
    with pytest.raises(RedisError):
        lane.ask(b"PING")
