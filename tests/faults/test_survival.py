"""Nothing acknowledged is lost, doubled or forgotten in answers, whatever dies below."""

import asyncio
import functools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
import redis

from tests.faults.conftest import execute
from tests.faults.harness import (
    RECONNECT_SECS,
    World,
    everything,
    kill,
    until,
    world_of_one_command,
    world_on_own_servers,
)
from tests.faults.ledger import Ledger
from tests.faults.load import add_films, under_load
from tests.faults.report import note, rounds_of
from tests.service.processes import children_of, family, frozen

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("survival"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(4 * 3600 if os.environ.get("ROUNDS") else 600),
]

POSTGRES_PID, REDIS_PID = "postgres/postmaster.pid", "redis.pid"
Fault = Callable[[World], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_on_own_servers(tmp_path_factory.mktemp("servers")) as world:
        await world.serve(workers=2)
        await add_films(world.target)
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def command(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_of_one_command(tmp_path_factory.mktemp("command")) as world:
        await add_films(world.target)
        yield world


async def suffer(world: World, name: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    """Rounds of a fault under load, a row of the table, and the promises that hold for it."""
    rounds = rounds_of(short=request.config.getoption("--short"))
    ledger = Ledger(name.replace(" ", "-"))
    async with under_load(world.target, ledger, world.chance) as load:
        for _ in range(rounds):
            await asyncio.sleep(world.chance.uniform(0, 0.3))
            await fault(world)
            await load.advanced()
    await until(world.healthy)
    row = await ledger.settle(world.database_url, name, rounds)
    note(request, row)
    told = f"{ledger.failed} {ledger.wrong[:5]}"
    assert (row.lost, row.doubled, row.wrong) == (0, 0, 0), told
    assert row.acknowledged == row.found > 10 * rounds
    if not FAULTS[name]:
        assert row.failed == 0, told


async def worker_killed(world: World) -> None:
    await world.full_strength(2)
    kill(world.chance.choice(world.listening_workers()))


async def worker_frozen(world: World) -> None:
    await world.full_strength(2)
    with frozen(world.chance.choice(world.listening_workers())):
        await asyncio.sleep(world.chance.uniform(0.3, 1.2))


async def workers_restarted(world: World) -> None:
    for worker in world.listening_workers():
        await world.full_strength(2)
        os.kill(worker, signal.SIGTERM)
        await until(functools.partial(gone, world, worker))
    await world.full_strength(2)


async def gone(world: World, worker: int) -> bool:
    return worker not in world.service.workers()


async def postgres_killed(world: World) -> None:
    members = family(world.backends.postgres)
    kill(*(members if world.chance.random() < 0.5 else members[:1]))
    await asyncio.sleep(world.chance.uniform(0, 0.5))
    await world.backends.start()
    await until(world.healthy)


async def postgres_frozen(world: World) -> None:
    with frozen(world.backends.postgres), frozen(*children_of(world.backends.postgres)):
        await asyncio.sleep(world.chance.uniform(0.5, 2.5))
    await until(world.healthy)


async def postgres_read_only(world: World) -> None:
    url = world.backends.database_url
    setting = "default_transaction_read_only"
    await execute(url, f"ALTER SYSTEM SET {setting} = on", "SELECT pg_reload_conf()")
    await asyncio.sleep(world.chance.uniform(0.3, 1.0))
    await execute(
        url, f"SET {setting} = off", f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()"
    )
    await until(world.healthy)


async def redis_killed(world: World) -> None:
    kill(world.backends.redis)
    await asyncio.sleep(world.chance.uniform(0, 0.5))
    await world.backends.start()


async def redis_flushed(world: World) -> None:
    with redis.Redis.from_url(world.backends.redis_url) as client:
        client.flushall()


async def redis_frozen(world: World) -> None:
    with frozen(world.backends.redis):
        await asyncio.sleep(world.chance.uniform(0.2, 1.5))


async def redis_slow(world: World) -> None:
    world.proxy.delay_secs = 0.2
    await asyncio.sleep(world.chance.uniform(0.2, 1.5))
    world.proxy.delay_secs = 0


async def redis_replaced(world: World) -> None:
    """Another one answers: an empty one, or one with what was known a while ago."""
    with redis.Redis.from_url(world.backends.redis_url) as client:
        client.swapdb(0, 9)
    world.proxy.cut()


async def parent_killed(world: World) -> None:
    dead = world.service
    kill(dead.pid)
    await world.serve_again(dead, workers=2)
    await until(world.healthy)


async def all_killed(world: World) -> None:
    dead = world.service
    pids = everything(world)
    world.chance.shuffle(pids)
    kill(*pids)
    await world.serve_again(dead, workers=2)
    await until(world.healthy)


async def bundled_postgres_killed(world: World) -> None:
    dead, *others = family(world.bundled(POSTGRES_PID))
    kill(dead, *(others if world.chance.random() < 0.5 else ()))
    await until(functools.partial(world.replaced, POSTGRES_PID, dead))
    await until(world.healthy)


async def bundled_redis_killed(world: World) -> None:
    dead = world.bundled(REDIS_PID)
    kill(dead)
    await until(functools.partial(world.replaced, REDIS_PID, dead))


PROMISED_WITHOUT_A_FAILED_CALL: dict[str, Fault] = {
    "workers restarted in turn": workers_restarted,
    "worker frozen": worker_frozen,
    "Redis killed": redis_killed,
    "Redis flushed": redis_flushed,
    "Redis frozen": redis_frozen,
    "Redis slow": redis_slow,
    "Redis replaced": redis_replaced,
}
WITH_FAILED_CALLS: dict[str, Fault] = {
    "worker killed": worker_killed,
    "PostgreSQL killed": postgres_killed,
    "PostgreSQL frozen": postgres_frozen,
    "PostgreSQL read only": postgres_read_only,
}
OF_ONE_COMMAND: dict[str, Fault] = {
    "bundled PostgreSQL killed": bundled_postgres_killed,
    "bundled Redis killed": bundled_redis_killed,
    "parent killed": parent_killed,
    "all killed": all_killed,
}
SIGTERM = "SIGTERM"
FAULTS = {
    **dict.fromkeys([*WITH_FAILED_CALLS, *OF_ONE_COMMAND], True),
    **dict.fromkeys([*PROMISED_WITHOUT_A_FAILED_CALL, "bundled Redis killed", SIGTERM], False),
}
"""Every fault, and whether calls may fail in it."""


@pytest.mark.parametrize("name", WITH_FAILED_CALLS)
async def test_acknowledged_survives(
    servers: World, name: str, request: pytest.FixtureRequest
) -> None:
    await suffer(servers, name, WITH_FAILED_CALLS[name], request)


@pytest.mark.parametrize("name", PROMISED_WITHOUT_A_FAILED_CALL)
async def test_no_call_fails(servers: World, name: str, request: pytest.FixtureRequest) -> None:
    await suffer(servers, name, PROMISED_WITHOUT_A_FAILED_CALL[name], request)


async def test_no_call_fails_while_one_of_two_instances_is_stopped(
    servers: World, request: pytest.FixtureRequest
) -> None:
    """SIGTERM in turns, as hosts are renewed: the callers' client knows both addresses."""
    await servers.serve(workers=1)

    async def stopped(world: World) -> None:
        ending = world.instances[0]
        ending.send(signal.SIGTERM)
        assert await asyncio.to_thread(ending.wait) == 0
        await world.serve_again(ending, workers=1)
        await until(world.healthy)
        await asyncio.sleep(RECONNECT_SECS)

    await suffer(servers, SIGTERM, stopped, request)


@pytest.mark.parametrize("name", OF_ONE_COMMAND)
async def test_acknowledged_survives_with_the_bundled_servers(
    command: World, name: str, request: pytest.FixtureRequest
) -> None:
    await suffer(command, name, OF_ONE_COMMAND[name], request)
