"""The pool: tenants, errors, lives of connections."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from storage.config import DatabaseConfig
from storage.database import Connection, Database, PoolStats
from storage.exceptions import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PenchantError,
    StaleTenant,
    Unavailable,
)
from storage.retry import retry_transient
from storage.sessions import session_of
from storage.vector_codecs import halfvec_array
from tests.waiting import until

ConnectDatabase = Callable[..., Awaitable[Database]]

_TENANT = "SELECT current_setting('penchant.tenant_id', true)"


async def _tenant(connection: Connection) -> str:
    return await connection.fetchval(_TENANT) or ""


async def test_connection_of_two_tenants_in_turn_sees_each_one_alone(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    seen = []
    for tenant_id in ("a", "b", None, "a"):
        async with database.connection(tenant_id) as connection:
            seen.append(await _tenant(connection))
    assert seen == ["a", "b", "", "a"]


async def test_connection_of_same_tenant_again_costs_no_round_trip(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    sent: list[str] = []
    async with database.connection("a") as connection:
        connection.add_query_logger(lambda record: sent.append(record.query))
    async with database.connection("a") as connection:
        await connection.fetchval("SELECT 1")
        await asyncio.sleep(0)  # the logger is called by the loop
    assert sent == ["SELECT 1"]


async def test_connection_keeps_plans_for_those_who_ask_for_it_alone(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    planned = []
    for keep_plans in (False, True, True, False):
        async with database.connection("a", keep_plans=keep_plans) as connection:
            planned.append(await connection.fetchval("SHOW plan_cache_mode"))
    once, anew = "force_generic_plan", "force_custom_plan"
    assert planned == [anew, once, once, anew]


async def test_connection_after_an_exception_forgets_the_tenant(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    with pytest.raises(KeyError):
        async with database.connection("a"):
            raise KeyError
    async with database.connection(None) as connection:
        assert await _tenant(connection) == ""


async def test_transaction_rolled_back_forgets_the_tenant(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.transaction("a") as connection:
            await connection.execute("SET penchant.tenant_id = 'x'; SELECT * FROM nowhere")
    async with database.connection("a") as connection:
        assert await _tenant(connection) == "a"


async def test_connection_cancelled_in_a_query_serves_the_next_tenant(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    started = asyncio.Event()

    async def sleep() -> None:
        async with database.connection("a") as connection:
            started.set()
            await connection.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(sleep())
    await started.wait()
    beside = await connect_database(role=None, max_connections=1)

    async def runs() -> bool:
        async with beside.connection(None) as connection:
            found: bool = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active'"
                " AND datname = current_database() AND query = 'SELECT pg_sleep(30)')"
            )
            return found

    await until(runs)  # one that has not begun is not cancelled
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.connection("b") as connection:
        assert await _tenant(connection) == "b"


async def test_transaction_commits_and_an_exception_rolls_back(owner_database: Database) -> None:
    async with owner_database.transaction(None) as connection:
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.execute("INSERT INTO kept VALUES (1)")
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with owner_database.transaction(None) as connection:
            await connection.execute("INSERT INTO kept VALUES (2); SELECT 1 / 0")
    async with owner_database.connection(None) as connection:
        assert await connection.fetchval("SELECT array_agg(n) FROM kept") == [1]


async def test_connection_past_its_lifetime_is_replaced(connect_database: ConnectDatabase) -> None:
    database = await connect_database(max_connections=1, max_lifetime_secs=3600)
    async with database.connection("a") as connection:
        first = connection.get_server_pid()
    async with database.connection("a") as connection:
        assert connection.get_server_pid() == first
        session = session_of(connection)
        assert 0.8 * 3600 < session.retire_at - time.monotonic() <= 3600
        session.retire_at = 0
    async with database.connection("a") as connection:
        assert connection.get_server_pid() != first
        assert await _tenant(connection) == "a"


async def test_pool_without_free_connection_says_so_in_time(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1, acquire_timeout_secs=0.1)
    async with database.connection("a"):
        begun = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            async with database.connection("b"):
                pass
        assert caught.value.reason == "POOL_EXHAUSTED"
        assert caught.value.retry_after is not None
        assert time.monotonic() - begun < 2.5
        await until(database.health_check)
    async with database.connection("b") as connection:
        assert await _tenant(connection) == "b"


async def test_health_check_of_a_frozen_server_is_false_in_time(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(max_connections=1)
    async with database.connection(None) as connection:
        backend = connection.get_server_pid()
    os.kill(backend, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert await database.health_check() is False
        assert time.monotonic() - begun < 10
    finally:
        os.kill(backend, signal.SIGCONT)
    await until(database.health_check)


async def test_pool_stats_count_open_and_idle_connections(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(min_connections=2, max_connections=3)
    async with database.connection("a"):
        assert database.pool_stats() == PoolStats(size=2, idle=1)
    await database.close()
    assert database.pool_stats() == PoolStats(size=0, idle=0)


async def test_role_of_connections_is_the_service_role(
    database: Database, maintenance_database: Database
) -> None:
    async with database.connection("a") as connection:
        assert await connection.fetchval("SELECT current_user") == "penchant_service"
        await connection.execute("RESET ROLE")
        assert await connection.fetchval("SELECT current_user") == "penchant_service"
    async with maintenance_database.connection(None) as connection:
        assert await connection.fetchval("SELECT current_user") == "penchant_maintenance"


async def test_terminated_connection_is_unavailable_and_then_replaced(
    database: Database, postgres_server: str
) -> None:
    async def lose_connection() -> None:
        async with database.connection("a") as connection:
            admin = await asyncpg.connect(postgres_server)
            await admin.execute(
                "SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid()
            )
            await admin.close()
            await connection.fetchval("SELECT 1")

    with pytest.raises(Unavailable) as caught:
        await lose_connection()
    assert caught.value.retry_after is not None
    async with database.connection("b") as connection:
        assert await _tenant(connection) == "b"


@pytest.mark.parametrize(
    ("state", "expected", "reason"),
    [
        ("40001", Aborted, "ABORTED"),
        ("40P01", Aborted, "ABORTED"),
        ("PC409", StaleTenant, "STALE_TENANT"),
        ("57014", DeadlineExceeded, "QUERY_TIMEOUT"),
        ("25006", Unavailable, "DATABASE_READ_ONLY"),
        ("53100", Unavailable, "DATABASE_DISK_FULL"),
        ("53300", Unavailable, "DATABASE_CONNECTIONS_EXHAUSTED"),
        ("57P01", Unavailable, "DATABASE_UNAVAILABLE"),
        ("57P03", Unavailable, "DATABASE_UNAVAILABLE"),
        ("08006", Unavailable, "DATABASE_UNAVAILABLE"),
        ("22P05", InvalidArgument, "INVALID_TEXT"),
    ],
)
async def test_error_of_postgres_becomes_the_domains(
    database: Database, state: str, expected: type[PenchantError], reason: str
) -> None:
    with pytest.raises(PenchantError) as caught:
        async with database.connection("a") as connection:
            await connection.execute(
                f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$"
            )
    assert (type(caught.value), caught.value.reason) == (expected, reason)


async def test_error_of_a_named_constraint_becomes_already_exists(
    maintenance_database: Database,
) -> None:
    with pytest.raises(AlreadyExists) as caught:
        async with maintenance_database.transaction(None) as connection:
            await connection.execute("INSERT INTO tenants (tenant_id) VALUES ('a'), ('a')")
    assert caught.value.reason == "TENANT_EXISTS"


async def test_error_that_is_a_bug_stays_one(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.connection("a") as connection:
            await connection.execute("SELECT * FROM nowhere")


async def test_text_with_nul_is_invalid(database: Database) -> None:
    with pytest.raises(InvalidArgument):
        async with database.connection("a") as connection:
            await connection.fetchval("SELECT $1::text", "a\0b")


async def test_statement_past_its_timeout_is_deadline_exceeded(
    connect_database: ConnectDatabase,
) -> None:
    database = await connect_database(query_timeout_secs=2)
    with pytest.raises(DeadlineExceeded):
        async with database.connection("a") as connection:
            await connection.execute("SELECT pg_sleep(30)")
    async with database.connection("a") as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_connect_without_server_gives_up_in_time(tmp_path: Path) -> None:
    url = f"postgresql://u@{str(tmp_path).replace('/', '%2F')}/d"
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        await Database(DatabaseConfig(url=url, connect_timeout_secs=0.4)).connect()
    assert time.monotonic() - begun < 10


async def test_connect_before_the_first_migration_names_the_role(empty_database_url: str) -> None:
    # Roles belong to the cluster: one that no migration makes stands in for a new cluster.
    database = Database(DatabaseConfig(url=empty_database_url), role="nobody_of_that_name")
    with pytest.raises(FailedPrecondition, match="nobody_of_that_name"):
        await database.connect()


async def test_vectors_are_known_once_a_migration_made_the_type(empty_database_url: str) -> None:
    config = DatabaseConfig(url=empty_database_url, max_connections=1)
    async with Database(config, role=None) as database:
        async with database.connection(None) as connection:
            await connection.execute("CREATE EXTENSION vector")
        async with database.connection(None) as connection:
            stored = await connection.fetchval("SELECT $1::halfvec", np.arange(3))
    assert (stored.dtype, stored.tolist()) == (np.float16, [0.0, 1.0, 2.0])


async def test_vectors_travel_alone_and_in_arrays(database: Database) -> None:
    half = np.array([0.5, -2.0, 65504.0], np.float16)
    async with database.connection("a") as connection:
        row = await connection.fetchrow(
            "SELECT $1::halfvec AS half, $2::vector AS single, $3::halfvec[] AS several",
            half,
            half.astype(np.float32),
            halfvec_array([half, None]),
        )
    assert row is not None
    assert row["half"].dtype == np.float16
    assert row["single"].dtype == np.float32
    assert row["half"].tolist() == row["single"].tolist() == row["several"][0].tolist()
    assert row["several"][1] is None


async def test_retry_transient_repeats_what_was_aborted() -> None:
    calls: list[int] = []

    async def work() -> str:
        calls.append(len(calls))
        if len(calls) < 3:
            raise Aborted
        return "done"

    assert await retry_transient(work) == "done"
    assert len(calls) == 3


@pytest.mark.parametrize(
    "error", [StaleTenant(), Unavailable(reason="POOL_EXHAUSTED"), InvalidArgument()], ids=repr
)
async def test_retry_transient_gives_up_at_once_on(error: PenchantError) -> None:
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        await retry_transient(work)
    assert calls == [1]


async def test_retry_transient_ends_before_the_deadline() -> None:
    async def work() -> None:
        raise Unavailable

    begun = time.monotonic()
    with pytest.raises(Unavailable):
        await retry_transient(work, deadline_secs=0.2, attempts=1000)
    assert time.monotonic() - begun < 10
