"""Which of several processes does what only one may do: a session lock in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from storage.database import Connection, Database
from storage.driver_errors import translated
from storage.exceptions import PenchantError, Unavailable
from storage.queries import load

_SQL = load("leadership")
_ANSWER_SECS = 5.0
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

JOBS_LEADER = 1
"""The lock of the process that runs the periodic jobs."""


class Leader:
    """The lock while it is held."""

    def __init__(self, connection: Connection, role: int) -> None:
        self._connection = connection
        self._role = role

    async def check(self) -> None:
        """Raises Unavailable unless the lock is certainly still held."""
        try:
            with translated():
                holds = await self._connection.fetchval(
                    _SQL["still_leading"], self._role, timeout=_ANSWER_SECS
                )
        except (PenchantError, asyncpg.InternalClientError) as error:
            # The latter is what a session's end looks like that arrives between two statements.
            raise Unavailable("PostgreSQL does not answer the leader.") from error
        if not holds:
            raise Unavailable("The leader's lock is lost.")


@asynccontextmanager
async def leadership(
    database: Database, role: int = JOBS_LEADER, *, poll_secs: float = 2.0
) -> AsyncIterator[Leader]:
    """Waits until this process is the leader, and is it while the block runs.

    The lock lives in a session of its own: when that ends, for whatever reason, PostgreSQL gives
    the lock to the next one who asks. The block must end soon after `Leader.check` has raised.

    Args:
        database: lends the one connection; must not go through a pooler of transactions.
        role: what is led.
        poll_secs: seconds between attempts. (A session that blocked on the lock would hold a
            snapshot back.)

    Raises:
        Unavailable: PostgreSQL is or went away.
    """
    async with database.connection(None) as connection:
        while True:
            if await connection.fetchval(_SQL["try_lead"], role):
                break
            await asyncio.sleep(poll_secs)
        try:
            yield Leader(connection, role)
        finally:
            try:
                await connection.fetchval(_SQL["stop_leading"], role, timeout=_ANSWER_SECS)
            except (*_LOST, OSError):
                _end_session(connection)
            except asyncio.CancelledError:
                _end_session(connection)
                raise


def _end_session(connection: Connection) -> None:
    """A session that may still hold the lock must not go back into the pool."""
    with suppress(asyncpg.InterfaceError):  # it is gone already
        connection.terminate()
