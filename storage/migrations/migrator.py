"""Bringing a database's schema forward and back."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import structlog

from storage.config import DatabaseConfig, MigrationConfig
from storage.database import Database
from storage.driver_errors import connect_error, translated
from storage.driver_types import OwnConnection
from storage.exceptions import (
    Dirty,
    FailedPrecondition,
    MigrationError,
    VersionMismatch,
    VersionMissing,
)
from storage.hosts import Hosts
from storage.migrations import bookkeeping
from storage.migrations.lock import migration_lock
from storage.migrations.migration import AppliedMigration, Migration, runs_in_transaction
from storage.migrations.pgvector import check_pgvector
from storage.migrations.source import read_migrations
from storage.migrations.statements import explain_failure, run_statements

SHIPPED = Path(__file__).resolve().parents[2] / "migrations"

_CONNECT_TIMEOUT_SECS = 10

_log = structlog.get_logger(__name__)


class MigrationRunner:
    """Applies and reverts migrations on one connection of its own, as the URL's login user.

    Runners started at the same time take turns: the second finds nothing left to do.

    Args:
        database: a `Database`, its config, or a URL.
        config: whether pgvector is checked.
        source: the directory of the files.
    """

    def __init__(
        self,
        database: Database | DatabaseConfig | str,
        config: MigrationConfig | None = None,
        *,
        source: Path = SHIPPED,
    ) -> None:
        if isinstance(database, Database):
            database = database.config
        if isinstance(database, DatabaseConfig):
            if database.url is None:
                raise FailedPrecondition("DATABASE_URL is not set.", reason="DATABASE_URL_MISSING")
            database = database.url.get_secret_value()
        self._url = database
        self._config = config or MigrationConfig()
        self._source = source

    async def run_migrations(self) -> list[Migration]:
        """Applies what is pending, each migration in its own transaction.

        Returns:
            The migrations that this call applied.

        Raises:
            PgvectorMissing: before anything was changed.
            VersionMissing, VersionMismatch, Dirty: the database and the files do not agree.
            MigrationError: a statement failed; the migrations before it stay applied.
            Unavailable, FailedPrecondition: no connection.
        """
        async with self._connected() as connection, migration_lock(connection):
            if self._config.validate_pgvector:
                await check_pgvector(connection)
            migrations = read_migrations(self._source)
            applied = await _checked(connection, migrations)
            pending = [m for m in migrations if m.version not in applied]
            for migration in pending:
                await _apply(connection, migration)
            return pending

    async def get_current_version(self) -> int | None:
        """The newest version that is applied in whole; None on an empty database."""
        applied = await self.list_applied_migrations()
        return max((row.version for row in applied if row.success), default=None)

    async def list_applied_migrations(self) -> list[AppliedMigration]:
        """The database's migrations by version, failed ones too."""
        async with self._connected() as connection:
            return await bookkeeping.list_applied(connection)

    async def pending(self) -> list[Migration]:
        """The migrations that `run_migrations` would apply; changes nothing.

        Raises:
            VersionMissing, VersionMismatch, Dirty: the database and the files do not agree.
        """
        async with self._connected() as connection:
            migrations = read_migrations(self._source)
            applied = await _checked(connection, migrations)
            return [m for m in migrations if m.version not in applied]

    async def revert(self, to: int | None = None) -> list[Migration]:
        """Undoes migrations, the newest first, each in its own transaction.

        Args:
            to: the version that stays as the newest; 0 undoes all, None only the last one.

        Returns:
            The migrations that this call undid.

        Raises:
            VersionMissing, VersionMismatch, Dirty: the database and the files do not agree.
            MigrationError: no such version, a migration without down file, or a statement failed.
        """
        async with self._connected() as connection, migration_lock(connection):
            migrations = read_migrations(self._source)
            applied = await _checked(connection, migrations)
            if to not in {None, 0} and to not in applied:
                raise MigrationError(f"Version {to} is not applied, so nothing can go back to it.")
            steps = [m for m in reversed(migrations) if m.version in applied]
            steps = steps[:1] if to is None else [m for m in steps if m.version > to]
            for migration in steps:
                if migration.down_sql is None:
                    raise MigrationError(f"Migration {migration.title} has no down file.")
            for migration in steps:
                await _revert(connection, migration)
            return steps

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[OwnConnection]:
        with translated(connect_error):
            connection = await Hosts(self._url).connect(
                timeout=_CONNECT_TIMEOUT_SECS,
                server_settings={"application_name": "penchant-migrate", "timezone": "UTC"},
            )
        try:
            with translated():
                yield connection
        finally:
            try:
                await connection.close(timeout=_CONNECT_TIMEOUT_SECS)
            except (OSError, asyncpg.PostgresError):
                connection.terminate()


async def _checked(
    connection: OwnConnection, migrations: Sequence[Migration]
) -> dict[int, AppliedMigration]:
    files = {migration.version: migration for migration in migrations}
    applied = {row.version: row for row in await bookkeeping.list_applied(connection)}
    for version, row in applied.items():
        metadata = {"version": str(version)}
        if not row.success:
            raise Dirty(
                f"Migration {version} ({row.description}) failed half way: repair the schema by "
                f"hand, then delete its row from _sqlx_migrations.",
                metadata=metadata,
            )
        if version not in files:
            raise VersionMissing(
                f"Migration {version} ({row.description}) was applied and its file is missing.",
                metadata=metadata,
            )
        if files[version].checksum != row.checksum:
            raise VersionMismatch(
                f"Migration {files[version].title} was applied and its file has changed since.",
                metadata=metadata,
            )
    return applied


async def _apply(connection: OwnConnection, migration: Migration) -> None:
    started = time.perf_counter_ns()
    if runs_in_transaction(migration.sql):
        async with _file_in_transaction(connection, migration, migration.sql):
            await bookkeeping.note(connection, migration, success=True)
    else:
        # Noted as failed first: whatever happens, a half-made change is not taken for none.
        await bookkeeping.note(connection, migration, success=False)
        await run_statements(connection, migration, migration.sql)
        await bookkeeping.set_success(connection, migration.version, True)
    elapsed = time.perf_counter_ns() - started
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        await bookkeeping.set_time(connection, migration.version, elapsed)
    _log.info("migration_applied", version=migration.version, description=migration.description)


async def _revert(connection: OwnConnection, migration: Migration) -> None:
    sql = migration.down_sql or ""
    if runs_in_transaction(sql):
        async with _file_in_transaction(connection, migration, sql):
            await bookkeeping.forget(connection, migration.version)
    else:
        await bookkeeping.set_success(connection, migration.version, False)
        await run_statements(connection, migration, sql)
        await bookkeeping.forget(connection, migration.version)
    _log.info("migration_reverted", version=migration.version, description=migration.description)


@asynccontextmanager
async def _file_in_transaction(
    connection: OwnConnection, migration: Migration, sql: str
) -> AsyncIterator[None]:
    """The file as one text, as sqlx sends it, and the block's bookkeeping: both or neither."""
    try:
        async with connection.transaction():
            await connection.execute(sql)
            yield
    except asyncpg.PostgresError as error:
        if connection.is_closed():
            raise
        raise await explain_failure(connection, migration, sql, error) from error
