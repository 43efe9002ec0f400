"""Connections on their way back to the pool."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg

from storage.driver_types import Connection, Pool
from storage.sessions import Session

# The last is what the pool says when it has just let go of the connection, which broke.
_ENDED_ON_THE_WAY = (
    OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
)  # fmt: skip


class Returns:
    """Gives connections back, or ends those whose time is over.

    Args:
        pool: the pool that lent them; None once it is closed.
        timeout_secs: how long the pool may take for one.
    """

    def __init__(self, pool: Callable[[], Pool | None], timeout_secs: float) -> None:
        self._pool = pool
        self._timeout = timeout_secs
        self._under_way: set[asyncio.Future[None]] = set()

    def give_back(self, borrowed: Connection) -> asyncio.Future[None]:
        """Gives a connection back, behind the caller, to the pool, which must be open."""
        pool = self._pool()
        assert pool is not None
        return self._return(pool.release(borrowed, timeout=self._timeout))

    async def release(self, borrowed: Connection, session: Session, *, wait: bool) -> None:
        """Gives a connection back; without `wait` in the background.

        A cancelled call must not wait until PostgreSQL has confirmed its statement's end.
        """
        if time.monotonic() >= session.retire_at:
            # A closed connection goes back to the pool's empty places by itself.
            release = self._return(session.close(timeout=1.0))
        elif self._pool() is None:
            session.terminate()
            return
        else:
            release = self.give_back(borrowed)
        if not wait:
            return
        try:
            await asyncio.shield(release)
        except _ENDED_ON_THE_WAY:
            # The pool has thrown the connection away; what the loan did has its own outcome.
            session.terminate()

    def _return(self, returning: Awaitable[None]) -> asyncio.Future[None]:
        release = asyncio.ensure_future(returning)
        self._under_way.add(release)
        release.add_done_callback(self._returned)
        return release

    def _returned(self, release: asyncio.Future[None]) -> None:
        self._under_way.discard(release)
        if not release.cancelled():
            # A borrower that was cancelled leaves nobody to take the outcome.
            release.exception()
