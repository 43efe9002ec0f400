"""sqlx's advisory lock: one migrator at a time in one database."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage.driver_types import OwnConnection

_SQLX_NUMBER = 0x3D32AD9E
_POLL_SECS = 0.1


def lock_key(database_name: str) -> int:
    """The lock's number for a database, by sqlx's formula."""
    return _SQLX_NUMBER * zlib.crc32(database_name.encode())


@asynccontextmanager
async def migration_lock(connection: OwnConnection) -> AsyncIterator[None]:
    """Holds the lock on this connection; waits for it as long as another migrator has it.

    It polls: a session that blocked in pg_advisory_lock would hold a snapshot, for which the other
    migrator's CREATE INDEX CONCURRENTLY would wait in turn.
    """
    key = lock_key(await connection.fetchval("SELECT current_database()"))
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECS)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", key)
