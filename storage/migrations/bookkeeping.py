"""sqlx's table of applied migrations."""

from storage.driver_types import OwnConnection
from storage.migrations.migration import AppliedMigration, Migration

# The definition is sqlx-postgres 0.9's, so that either tool may be the first.
_CREATE = """
CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
    success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL
)
"""
_LIST = """
SELECT version, description, installed_on, success, checksum, execution_time
FROM _sqlx_migrations ORDER BY version
"""
_INSERT = """
INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
VALUES ($1, $2, $3, $4, -1)
"""
_EXISTS = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL"
_SET_SUCCESS = "UPDATE _sqlx_migrations SET success = $2 WHERE version = $1"
_SET_TIME = "UPDATE _sqlx_migrations SET execution_time = $2 WHERE version = $1"
_DELETE = "DELETE FROM _sqlx_migrations WHERE version = $1"


async def list_applied(connection: OwnConnection) -> list[AppliedMigration]:
    """The rows by version; none where there is no table."""
    if not await connection.fetchval(_EXISTS):
        return []
    return [AppliedMigration(**dict(row)) for row in await connection.fetch(_LIST)]


async def note(connection: OwnConnection, migration: Migration, *, success: bool) -> None:
    """Adds a migration's row, and the table before it."""
    if not await connection.fetchval(_EXISTS):
        await connection.execute(_CREATE)
    await connection.execute(
        _INSERT, migration.version, migration.description, success, migration.checksum
    )


async def set_success(connection: OwnConnection, version: int, success: bool) -> None:
    """Says whether a migration without transaction went all the way."""
    await connection.execute(_SET_SUCCESS, version, success)


async def set_time(connection: OwnConnection, version: int, nanoseconds: int) -> None:
    """Notes how long a migration took."""
    await connection.execute(_SET_TIME, version, nanoseconds)


async def forget(connection: OwnConnection, version: int) -> None:
    """Removes a migration's row."""
    await connection.execute(_DELETE, version)
