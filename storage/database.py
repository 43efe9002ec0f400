"""The pool of connections to PostgreSQL: each works for one tenant at a time."""

import asyncio
import contextlib
import logging
import random
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import asyncpg
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from storage.config import DatabaseConfig
from storage.driver_errors import connect_error, translated
from storage.driver_types import Connection, OwnConnection, Pool
from storage.ending import end
from storage.exceptions import FailedPrecondition, PenchantError, Unavailable
from storage.hosts import Hosts
from storage.idle_loans import IdleLoans
from storage.outage import Outage
from storage.queries import load
from storage.returns import Returns
from storage.sessions import SETTINGS, SearchWidths, Session, keep_session, session_of
from storage.vector_codecs import register_vector_codecs
from storage.version_slots import VersionSlots

__all__ = ["MAINTENANCE_ROLE", "SERVICE_ROLE", "Connection", "Database", "PoolStats"]

SERVICE_ROLE = "penchant_service"
MAINTENANCE_ROLE = "penchant_maintenance"

_SQL = load("health")

_HEALTH_TIMEOUT_SECS = 0.3
_HEALTH_CLEANUP_SECS = 0.2  # for giving up a query that is under way
_TRIAL_SECS = 5.0
_WAITING_A_CONNECTION = 16
_FEWEST_WAITING = 256
_SUSPICIOUS = frozenset({"DATABASE_UNAVAILABLE", "DATABASE_READ_ONLY", "QUERY_TIMEOUT"})
_CLOSE_TIMEOUT_SECS = 5.0
_HANDSHAKE_TIMEOUT_SECS = 5.0


# It writes a stack trace for every connection that it fails to open in the background.
logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Connections that are open, and how many of them nobody uses."""

    size: int
    idle: int


class Database:
    """A pool of connections to one PostgreSQL database.

    Usage: `async with Database(config) as database: ...`, or `connect()` and `close()`.

    Row-level security goes by the session's `penchant.tenant_id`, which every loan sets. Borrowers
    must leave no other session state behind (SET without LOCAL, LISTEN, session locks, temporary
    tables): a release does not reset it.

    While PostgreSQL is away (`storage.outage`) every loan is refused at once, loans under way end,
    and the pool is filled anew when it is back.

    Args:
        config: where and how many; `config.url` must be set.
        role: the role that every connection works under; None keeps the login user's.
        beside: another pool of this process to the same server: what one of them finds out about
            the server, the other knows.
        slots: where this host's processes tell each other of changes; None: as `beside`, or a table
            that nobody else looks at.
    """

    def __init__(
        self,
        config: DatabaseConfig,
        *,
        role: str | None = SERVICE_ROLE,
        beside: Self | None = None,
        slots: VersionSlots | None = None,
    ) -> None:
        if config.url is None:
            raise FailedPrecondition("DATABASE_URL is not set.", reason="DATABASE_URL_MISSING")
        self.config = config
        self.role = role
        self._hosts = Hosts(config.url.get_secret_value())
        self._pool: Pool | None = None
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.search_widths = SearchWidths()
        self._returns = Returns(lambda: self._pool, config.acquire_timeout_secs)
        self._idle = IdleLoans(self._returns.give_back)
        self._outage: Outage = (
            beside._outage if beside is not None else Outage("postgresql", self._look)
        )
        self._owns_outage = beside is None
        if slots is None:
            slots = VersionSlots() if beside is None else beside.slots
        self.slots: VersionSlots = slots
        self._most_waiting = max(_FEWEST_WAITING, _WAITING_A_CONNECTION * config.max_connections)
        self._read_only = self._full = False
        self._missed = 0  # health checks in a row
        self._trial: asyncio.Task[None] | None = None

    async def connect(self) -> Self:
        """Opens the pool, trying again for `connect_timeout_secs` while PostgreSQL is away.

        Raises:
            Unavailable: it stayed away.
            FailedPrecondition: it refuses the user, the database or the role (not migrated yet).
        """
        if self._pool is not None:
            return self
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.2, max=3.0),
            stop=stop_before_delay(self.config.connect_timeout_secs),
            reraise=True,
        )
        self._pool = await retrying(self._open_pool)
        self._outage.pools.append(self)
        return self

    async def close(self) -> None:
        """Closes the pool: waits a moment for loans to come back, then cuts them off."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        idle = self._idle.take_all()
        self._outage.pools.remove(self)
        if self._owns_outage:
            await self._outage.close()
        await end(self._trial)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECS):
                for borrowed in idle:
                    await pool.release(borrowed)
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def connection(
        self,
        tenant_id: str | None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - of acquire
        keep_plans: bool = False,
    ) -> AsyncIterator[Connection]:
        """Lends a connection that sees the rows of one tenant (None: of no tenant).

        Args:
            tenant_id: whose rows row-level security shows.
            timeout: seconds to wait for a free connection; at most `acquire_timeout_secs`.
            keep_plans: see `Session.work_for`.

        Raises:
            Unavailable: PostgreSQL is away, or every connection is taken (POOL_EXHAUSTED): for too
                long, or so many calls wait already that this one would in vain.
            Aborted, DeadlineExceeded, InvalidArgument: see `storage.driver_errors`.
        """
        borrowed = None if self._outage.away or self._pool is None else self._idle.take()
        if borrowed is None:
            borrowed = await self._acquire(timeout)
        session = session_of(borrowed)
        session.lent = True
        session.slots = self.slots
        failed = cancelled = False
        try:
            with translated():
                await session.work_for(
                    tenant_id, self.search_widths.of(tenant_id), keep_plans=keep_plans
                )
                yield borrowed
            self._outage.heard()
        except BaseException as error:
            session.forget_tenant()
            self._notice(error)
            failed, cancelled = True, isinstance(error, asyncio.CancelledError)
            raise
        finally:
            session.lent = False
            for change in session.changes:
                self.slots.end(change)
            session.changes.clear()
            if failed or not self._may_stay(session):
                await self._returns.release(borrowed, session, wait=not cancelled)
            else:
                self._idle.keep(borrowed)

    @asynccontextmanager
    async def transaction(
        self,
        tenant_id: str | None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - of acquire
    ) -> AsyncIterator[Connection]:
        """Like `connection`, in a transaction that is committed unless the block raises."""
        async with self.connection(tenant_id, timeout=timeout) as borrowed, borrowed.transaction():
            yield borrowed

    async def health_check(self) -> bool:
        """Whether PostgreSQL answers within half a second; `takes_writes` is news afterwards."""
        if self._outage.away:
            return False
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_SECS):
                if self._exhausted():
                    # All connections being busy says nothing about the server.
                    await self._look()
                else:
                    async with self.connection(None, timeout=_HEALTH_CLEANUP_SECS) as borrowed:
                        self._read_only = bool(await borrowed.fetchval(_SQL["read_only"]))
        except (PenchantError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._missed += 1
            if self._missed > 1:
                # The way to the server may be dead for the connections that are open.
                self._end(lambda session: not session.lent)
            self._outage.suspect()
            return False
        self._missed = 0
        if self._full and (self._trial is None or self._trial.done()):
            self._trial = asyncio.create_task(self._try_room())
        return True

    @property
    def is_away(self) -> bool:
        """Whether loans are refused at once."""
        return self._outage.away

    @property
    def takes_writes(self) -> bool:
        """Whether the server takes writes, by what the health checks found.

        A disk that a write found full counts as full until a trial has written to it.
        """
        return not (self._outage.away or self._read_only or self._full)

    def pool_stats(self) -> PoolStats:
        """The pool's size and idle connections; zeros while it is closed."""
        if self._pool is None:
            return PoolStats(size=0, idle=0)
        idle = self._pool.get_idle_size() + len(self._idle)
        return PoolStats(size=self._pool.get_size(), idle=idle)

    async def _open_pool(self) -> Pool:
        settings = dict(SETTINGS)
        if self.role is not None:
            settings["role"] = self.role
        with translated(connect_error):
            pool: Pool = asyncpg.create_pool(
                connect=self._hosts.connect,
                min_size=self.config.min_connections,
                max_size=self.config.max_connections,
                max_queries=2**62,
                # A lifetime would be a timer a statement, which holds what its first call held.
                max_cached_statement_lifetime=0,
                max_inactive_connection_lifetime=self.config.idle_timeout_secs,
                command_timeout=self.config.query_timeout_secs,
                timeout=min(_HANDSHAKE_TIMEOUT_SECS, self.config.connect_timeout_secs),
                connection_class=Session,
                server_settings=settings,
                init=self._prepare,
                reset=keep_session,
            )
            await pool
            try:
                await pool.fetchval("SELECT 1")
            except BaseException:
                pool.terminate()
                raise
        return pool

    async def _prepare(self, session: OwnConnection) -> None:
        if not isinstance(session, Session):
            raise TypeError(type(session))
        # Spread, so that connections opened together are not replaced together.
        lifetime = self.config.max_lifetime_secs * random.uniform(0.9, 1.0)  # noqa: S311 - no secret
        session.retire_at = time.monotonic() + lifetime
        session.notice_dead_peers()
        session.server_started = await session.fetchval(_SQL["server_started"])
        session.knows_vectors = await register_vector_codecs(session)
        if any(other.server_started != session.server_started for other in self._sessions):
            self._outage.suspect()  # a failover, or a restart
        self._sessions.add(session)

    async def _acquire(self, wait_secs: float | None) -> Connection:
        if self._pool is None:
            raise FailedPrecondition("The database is not connected.", reason="NOT_CONNECTED")
        limit = self.config.acquire_timeout_secs
        if self._outage.waiting >= self._most_waiting:
            raise self._taken()
        seconds = limit if wait_secs is None else max(0.0, min(limit, wait_secs))
        try:
            with translated(connect_error):
                try:
                    async with self._outage.bounded(seconds):
                        borrowed = await self._pool.acquire()
                except TimeoutError as error:
                    if not self._exhausted():
                        raise
                    raise self._taken() from error
        except PenchantError as error:
            self._notice(error)
            raise
        session = session_of(borrowed)
        if not session.knows_vectors:
            # Opened before the first migration created the types.
            try:
                with translated():
                    session.knows_vectors = await register_vector_codecs(session)
            except BaseException:
                await self._pool.release(borrowed)
                raise
        return borrowed

    def _may_stay(self, session: Session) -> bool:
        """Whether a loan that ended well may be lent again at once: nobody waits for the pool."""
        return (
            self._pool is not None
            and not self._outage.waiting
            and session.knows_vectors
            and not session.is_closed()
            and not session.is_in_transaction()
            and time.monotonic() < session.retire_at
        )

    def _notice(self, error: BaseException) -> None:
        """Draws conclusions from how a loan failed."""
        reason = error.reason if isinstance(error, PenchantError) else ""
        self._full |= reason == "DATABASE_DISK_FULL"
        if reason in _SUSPICIOUS:
            self._outage.suspect()

    async def _look(self) -> datetime | None:
        """For `Outage`."""
        try:
            with translated(connect_error):
                connection = await self._hosts.connect()
                try:
                    started: datetime = await connection.fetchval(_SQL["server_started"])
                finally:
                    connection.terminate()
        except FailedPrecondition:
            return None
        except Unavailable as error:
            if error.reason == "DATABASE_CONNECTIONS_EXHAUSTED":
                return None
            raise
        return started if self._hosts.one_server else None

    def cut(self, server_started: datetime | None) -> None:
        """Ends the connections to any server but the one that started then; None: all of them."""
        self._end(lambda s: server_started is None or s.server_started != server_started)

    def _end(self, doomed: Callable[[Session], bool]) -> None:
        for session in [s for s in self._sessions if doomed(s)]:
            self._sessions.discard(session)
            session.terminate()

    async def _try_room(self) -> None:
        """Notices when the disk that was full takes something again."""
        # Without the right to make temporary tables the next write tells.
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            try:
                async with asyncio.timeout(_TRIAL_SECS), self.connection(None) as borrowed:
                    trial = borrowed.transaction()
                    await trial.start()
                    try:
                        await borrowed.execute(_SQL["try_room"])
                    finally:
                        await trial.rollback()
            except (TimeoutError, PenchantError):
                return
        self._full = False

    def _taken(self) -> Unavailable:
        return Unavailable(
            f"All {self.config.max_connections} connections to PostgreSQL are taken.",
            reason="POOL_EXHAUSTED",
            retry_after=self.config.acquire_timeout_secs,
        )

    def _exhausted(self) -> bool:
        stats = self.pool_stats()
        return stats.idle == 0 and stats.size >= self.config.max_connections
