"""Connections are lent again without the pool, and the pool gets back what nobody needs."""

import asyncio

import pytest

from storage import idle_loans
from storage.database import Database, PoolStats
from tests.conftest import ConnectDatabase
from tests.waiting import until


async def backend(database: Database, tenant_id: str = "a") -> int:
    async with database.connection(tenant_id) as connection:
        return int(await connection.fetchval("SELECT pg_backend_pid()"))


def held_by_pool(database: Database) -> int:
    assert database._pool is not None
    return database._pool.get_idle_size()


async def test_what_came_back_is_lent_again_and_then_goes_back_to_the_pool(
    connect_database: ConnectDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_loans, "KEPT_SECS", 0.2)
    database = await connect_database(min_connections=2, max_connections=2)
    first = await backend(database)
    assert held_by_pool(database) == 1
    assert database.pool_stats() == PoolStats(size=2, idle=2)
    assert await backend(database, "b") == first
    await until(lambda: held_by_pool(database) == 2)
    assert database.pool_stats() == PoolStats(size=2, idle=2)


async def test_who_waits_for_the_pool_gets_what_comes_back(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(min_connections=1, max_connections=1)
    async with database.connection("a"):
        waiting = [asyncio.create_task(backend(database)) for _ in range(20)]
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        assert len(set(await asyncio.gather(*waiting))) == 1


async def test_what_failed_or_was_closed_is_not_lent_again(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(min_connections=1, max_connections=1)
    with pytest.raises(RuntimeError):
        async with database.connection("a"):
            raise RuntimeError
    assert held_by_pool(database) == 1
    first = await backend(database)
    database.cut(None)
    assert await backend(database) != first


async def test_nothing_is_lent_after_the_end(connect_database: ConnectDatabase) -> None:
    database = await connect_database(min_connections=1, max_connections=2)
    await backend(database)
    await database.close()
    assert database.pool_stats() == PoolStats(size=0, idle=0)
    with pytest.raises(Exception, match="not connected"):
        await backend(database)


async def test_tenants_are_kept_apart_on_a_connection_that_is_lent_again(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(min_connections=1, max_connections=1)
    for tenant_id in ("a", "b", "a"):
        async with database.connection(tenant_id) as connection:
            found = await connection.fetchval("SELECT current_setting('penchant.tenant_id')")
            assert found == tenant_id
