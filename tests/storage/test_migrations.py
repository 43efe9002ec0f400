"""Migrations: files, order, failures, locks, and the way back."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from storage.config import MigrationConfig
from storage.driver_types import OwnConnection
from storage.exceptions import (
    Dirty,
    MigrationError,
    PgvectorMissing,
    VersionMismatch,
    VersionMissing,
)
from storage.migrations import MigrationRunner, read_migrations
from storage.migrations.lock import lock_key
from tests.storage.postgres_15 import running_postgres_15

_words = st.text("abcxyz019_", min_size=1, max_size=20)
_sql = st.text(st.characters(codec="utf-8"), max_size=60)


@given(
    files=st.dictionaries(
        st.integers(1, 2**63 - 1), st.tuples(_words, _sql, st.none() | _sql), max_size=6
    ),
    zeros=st.integers(0, 4),
)
def test_source_reads_what_the_files_say(
    files: dict[int, tuple[str, str, str | None]], zeros: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "README.md").write_text("no migration")
        for version, (words, up, down) in files.items():
            stem = f"{'0' * zeros}{version}_{words}"
            (directory / f"{stem}.up.sql").write_bytes(up.encode())
            if down is not None:
                (directory / f"{stem}.down.sql").write_bytes(down.encode())
        migrations = read_migrations(directory)
    assert [m.version for m in migrations] == sorted(files)
    for migration in migrations:
        words, up, down = files[migration.version]
        assert migration.description == words.replace("_", " ")
        assert migration.checksum == hashlib.sha384(up.encode()).digest()
        assert migration.down_sql == down


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1_a.up.sql", "01_b.up.sql"], "Two files"),
        (["x_a.up.sql"], "positive number"),
        (["0_a.up.sql"], "positive number"),
        ([f"{2**63}_a.up.sql"], "positive number"),
        (["1_a.down.sql"], "no up file"),
    ],
    ids=["duplicate", "word", "zero", "too-large", "down-alone"],
)
def test_source_refuses_files_it_cannot_order(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=message):
        read_migrations(tmp_path)


def test_source_refuses_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_bytes(b"SELECT '\xff'")
    with pytest.raises(MigrationError, match="UTF-8"):
        read_migrations(tmp_path)


def test_source_refuses_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="no directory"):
        read_migrations(tmp_path / "missing")


def test_lock_key_is_sqlx_own() -> None:
    # CRC-32 of "123456789" is 0xCBF43926, the polynomial's published check value.
    assert lock_key("123456789") == 0x3D32AD9E * 0xCBF43926


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with two migrations: tables one and two."""
    _write(tmp_path, "0001_table_one", "CREATE TABLE one (n int);", "DROP TABLE one;")
    _write(tmp_path, "0002_table_two", "CREATE TABLE two (n int);", "DROP TABLE two;")
    return tmp_path


def _write(directory: Path, stem: str, up: str, down: str | None = None) -> None:
    (directory / f"{stem}.up.sql").write_text(up)
    if down is not None:
        (directory / f"{stem}.down.sql").write_text(down)


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[OwnConnection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
def runner(empty_database_url: str, source: Path) -> MigrationRunner:
    return MigrationRunner(empty_database_url, source=source)


async def _tables(connection: OwnConnection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND oid > 16384"
    )
    return sorted(row["relname"] for row in rows)


async def _lock_is_free(connection: OwnConnection) -> bool:
    return not await connection.fetchval("SELECT true FROM pg_locks WHERE locktype = 'advisory'")


async def test_run_applies_each_migration_once(
    runner: MigrationRunner, connection: OwnConnection
) -> None:
    assert await runner.get_current_version() is None
    assert [m.version for m in await runner.pending()] == [1, 2]
    assert await _tables(connection) == []

    assert [m.version for m in await runner.run_migrations()] == [1, 2]
    assert await runner.run_migrations() == []
    assert await runner.pending() == []
    assert await _tables(connection) == ["_sqlx_migrations", "one", "two"]
    assert await runner.get_current_version() == 2
    applied = await runner.list_applied_migrations()
    assert [(m.version, m.description, m.success) for m in applied] == [
        (1, "table one", True),
        (2, "table two", True),
    ]
    assert all(m.execution_time > 0 and len(m.checksum) == 48 for m in applied)
    assert await _lock_is_free(connection)


async def test_run_applies_a_migration_that_came_late(
    runner: MigrationRunner, source: Path
) -> None:
    late = source / "0002_table_two.up.sql"
    text = late.read_text()
    late.unlink()
    (source / "0002_table_two.down.sql").unlink()
    _write(source, "0003_table_three", "CREATE TABLE three (n int);")
    await runner.run_migrations()
    late.write_text(text)
    assert [m.version for m in await runner.run_migrations()] == [2]


async def test_failing_migration_leaves_everything_as_it_was(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    _write(
        source,
        "0003_breaks",
        "-- First comes a table.\nCREATE TABLE three (n int);\n"
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN; RETURN 1; END $$;\n\n"
        "-- This; is wrong.\nINSERT INTO three\nVALUES (1 / 0);\nSELECT 1;",
    )
    with pytest.raises(MigrationError) as caught:
        await runner.run_migrations()
    assert caught.value.metadata == {"version": "3", "statement": "2"}
    (source / "0003_breaks.up.sql").write_text(
        "-- First comes a table.\nCREATE TABLE three (n int);\n"
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;\n\n"
        "-- This; is wrong.\nINSERT INTO three\nVALUES (1 / 0);\nSELECT 1;",
    )
    with pytest.raises(MigrationError) as caught:
        await runner.run_migrations()
    assert caught.value.message == (
        "Migration 3 (breaks) failed at statement 3 of 4, `INSERT INTO three`: division by zero."
    )
    assert await _tables(connection) == ["_sqlx_migrations", "one", "two"]
    assert await runner.get_current_version() == 2
    assert await _lock_is_free(connection)


async def test_failing_first_migration_leaves_an_empty_database(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    (source / "0001_table_one.up.sql").write_text("CREATE TABLE one (n int); SELECT nothing;")
    with pytest.raises(MigrationError, match="statement 2 of 2, `SELECT nothing;`"):
        await runner.run_migrations()
    assert await _tables(connection) == []


async def test_failing_at_commit_names_the_migration(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    _write(
        source,
        "0003_deferred",
        "CREATE TABLE three (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO three VALUES (1), (1);",
    )
    with pytest.raises(MigrationError, match=r"Migration 3 \(deferred\) failed: duplicate key"):
        await runner.run_migrations()
    assert "three" not in await _tables(connection)


async def test_no_transaction_file_builds_an_index_online(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    _write(
        source,
        "0003_index",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY one_n ON one (n);",
        "-- no-transaction\nDROP INDEX CONCURRENTLY one_n;",
    )
    await runner.run_migrations()
    assert await connection.fetchval("SELECT to_regclass('one_n') IS NOT NULL")
    assert [m.version for m in await runner.revert()] == [3]
    assert await connection.fetchval("SELECT to_regclass('one_n') IS NULL")


async def test_no_transaction_file_that_fails_leaves_the_database_dirty(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    _write(source, "0003_half", "-- no-transaction\nCREATE TABLE half (n int);\nSELECT nothing;")
    with pytest.raises(MigrationError, match="statement 2 of 2"):
        await runner.run_migrations()
    assert "half" in await _tables(connection)
    assert [m.success for m in await runner.list_applied_migrations()] == [True, True, False]
    assert await runner.get_current_version() == 2
    for attempt in (runner.run_migrations, runner.pending, runner.revert):
        with pytest.raises(Dirty, match=r"Migration 3 \(half\)"):
            await attempt()
    assert await _lock_is_free(connection)


async def test_migration_changed_after_it_was_applied_is_a_mismatch(
    runner: MigrationRunner, source: Path
) -> None:
    await runner.run_migrations()
    (source / "0001_table_one.up.sql").write_text("CREATE TABLE one (n bigint);")
    with pytest.raises(VersionMismatch, match="Migration 1"):
        await runner.run_migrations()


async def test_migration_whose_file_is_gone_is_missing(
    runner: MigrationRunner, source: Path
) -> None:
    await runner.run_migrations()
    (source / "0001_table_one.up.sql").unlink()
    (source / "0001_table_one.down.sql").unlink()
    with pytest.raises(VersionMissing, match="Migration 1"):
        await runner.run_migrations()


async def test_two_runners_at_once_apply_each_migration_once(
    empty_database_url: str, source: Path
) -> None:
    _write(source, "0003_slow", "SELECT pg_sleep(0.2);")
    runners = [MigrationRunner(empty_database_url, source=source) for _ in range(3)]
    done = await asyncio.gather(*(runner.run_migrations() for runner in runners))
    assert sorted(len(migrations) for migrations in done) == [0, 0, 3]


async def test_runner_waits_for_the_lock_of_another_migrator(
    runner: MigrationRunner, connection: OwnConnection
) -> None:
    key = lock_key(await connection.fetchval("SELECT current_database()"))
    await connection.execute("SELECT pg_advisory_lock($1)", key)
    running = asyncio.create_task(runner.run_migrations())
    await asyncio.sleep(0.3)
    assert not running.done()
    await connection.execute("SELECT pg_advisory_unlock($1)", key)
    assert len(await running) == 2


async def test_revert_goes_one_step_to_a_version_or_all_the_way(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    _write(source, "0003_table_three", "CREATE TABLE three (n int);", "DROP TABLE three;")
    await runner.run_migrations()
    assert [m.version for m in await runner.revert()] == [3]
    assert [m.version for m in await runner.revert(to=1)] == [2]
    assert await runner.get_current_version() == 1
    assert [m.version for m in await runner.run_migrations()] == [2, 3]
    assert [m.version for m in await runner.revert(to=0)] == [3, 2, 1]
    assert await runner.revert() == []
    assert await _tables(connection) == ["_sqlx_migrations"]


async def test_revert_to_a_version_that_is_not_applied_changes_nothing(
    runner: MigrationRunner,
) -> None:
    await runner.run_migrations()
    with pytest.raises(MigrationError, match="Version 7"):
        await runner.revert(to=7)
    assert await runner.get_current_version() == 2


async def test_revert_past_a_migration_without_down_file_changes_nothing(
    runner: MigrationRunner, source: Path
) -> None:
    _write(source, "0003_for_good", "SELECT 1;")
    await runner.run_migrations()
    with pytest.raises(MigrationError, match="no down file"):
        await runner.revert(to=0)
    assert await runner.get_current_version() == 3


async def test_revert_that_fails_leaves_the_migration_applied(
    runner: MigrationRunner, source: Path, connection: OwnConnection
) -> None:
    (source / "0002_table_two.down.sql").write_text("DROP TABLE two; DROP TABLE nowhere;")
    await runner.run_migrations()
    with pytest.raises(MigrationError, match="statement 2 of 2, `DROP TABLE nowhere;`"):
        await runner.revert()
    assert await _tables(connection) == ["_sqlx_migrations", "one", "two"]


async def test_shipped_migrations_apply_revert_and_apply_again(
    empty_database_url: str, connection: OwnConnection
) -> None:
    runner = MigrationRunner(empty_database_url)
    applied = await runner.run_migrations()
    assert [m.version for m in await runner.revert(to=0)] == [m.version for m in reversed(applied)]
    assert await _tables(connection) == ["_sqlx_migrations"]
    assert await runner.run_migrations() == applied


async def _pretend_pgvector(connection: OwnConnection, version: str) -> None:
    await connection.execute("CREATE EXTENSION vector")
    await connection.execute(
        "UPDATE pg_extension SET extversion = $1 WHERE extname = 'vector'", version
    )


async def test_pgvector_too_old_is_refused_with_the_remedy(
    runner: MigrationRunner, connection: OwnConnection
) -> None:
    await _pretend_pgvector(connection, "0.8.1")
    with pytest.raises(PgvectorMissing, match="run ALTER EXTENSION vector UPDATE"):
        await runner.run_migrations()
    assert await _tables(connection) == []


async def test_pgvector_safe_but_outdated_is_warned_about(
    runner: MigrationRunner, connection: OwnConnection
) -> None:
    await _pretend_pgvector(connection, "0.8.3")
    with structlog.testing.capture_logs() as logs:
        await runner.run_migrations()
    assert [log["found"] for log in logs if log["event"] == "pgvector_outdated"] == ["0.8.3"]


@pytest.fixture(scope="module")
def postgres_without_pgvector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of Debian's PostgreSQL 15."""
    yield from running_postgres_15(tmp_path_factory.mktemp("pg15"))


async def test_postgres_without_pgvector_is_refused_and_left_alone(
    postgres_without_pgvector: str, source: Path
) -> None:
    runner = MigrationRunner(postgres_without_pgvector, source=source)
    with pytest.raises(PgvectorMissing) as caught:
        await runner.run_migrations()
    assert caught.value.message == (
        "This PostgreSQL 15 has no pgvector: install the package postgresql-15-pgvector "
        "(0.8.2 or newer) on its machine."
    )
    connection = await asyncpg.connect(postgres_without_pgvector)
    assert await _tables(connection) == []
    await connection.close()


async def test_postgres_without_pgvector_is_accepted_when_nobody_asks(
    postgres_without_pgvector: str, source: Path
) -> None:
    config = MigrationConfig(validate_pgvector=False)
    runner = MigrationRunner(postgres_without_pgvector, config, source=source)
    assert len(await runner.run_migrations()) == 2
    await runner.revert(to=0)
    connection = await asyncpg.connect(postgres_without_pgvector)
    await connection.execute("DROP TABLE _sqlx_migrations")
    await connection.close()
