"""The pool of connections to PostgreSQL: each works for one tenant at a time."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

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
from storage.exceptions import FailedPrecondition, Unavailable
from storage.vector_codecs import register_vector_codecs

__all__ = ["MAINTENANCE_ROLE", "SERVICE_ROLE", "Connection", "Database", "PoolStats"]

SERVICE_ROLE = "penchant_service"
MAINTENANCE_ROLE = "penchant_maintenance"

_HEALTH_TIMEOUT_SECS = 0.3
_HEALTH_CLEANUP_SECS = 0.2  # for giving up a query that is under way
_CLOSE_TIMEOUT_SECS = 5.0
# The last is what the pool says when it has just let go of the connection, which broke.
_ENDED_IN_RELEASE = (
    OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
)  # fmt: skip
_HANDSHAKE_TIMEOUT_SECS = 5.0
_SETTINGS = {
    "application_name": "penchant",
    "timezone": "UTC",
    "jit": "off",
    # With many partitions a generic plan's first run is hundreds of times slower (DESIGN.md).
    "plan_cache_mode": "force_custom_plan",
    # What a user has seen is probed as a hash table; one that does not fit becomes a scan a row.
    "work_mem": "32MB",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": "100",
}


class _Session(OwnConnection):
    """A connection that knows whose setting it carries and when it is to be replaced."""

    __slots__ = ("knows_vectors", "retire_at", "tenant_id")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # "" is what a new session has; None means unknown.
        self.tenant_id: str | None = ""
        self.knows_vectors = False
        self.retire_at = float("inf")

    async def work_for(self, tenant_id: str | None) -> None:
        wanted = tenant_id or ""
        if self.tenant_id != wanted:
            self.tenant_id = None
            await self.execute("SELECT set_config('penchant.tenant_id', $1, false)", wanted)
            self.tenant_id = wanted

    def forget_tenant(self) -> None:
        self.tenant_id = None


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

    Args:
        config: where and how many; `config.url` must be set.
        role: the role that every connection works under; None keeps the login user's.
    """

    def __init__(self, config: DatabaseConfig, *, role: str | None = SERVICE_ROLE) -> None:
        if config.url is None:
            raise FailedPrecondition("DATABASE_URL is not set.", reason="DATABASE_URL_MISSING")
        self.config = config
        self.role = role
        self._url = config.url.get_secret_value()
        self._pool: Pool | None = None

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
        return self

    async def close(self) -> None:
        """Closes the pool: waits a moment for loans to come back, then cuts them off."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), _CLOSE_TIMEOUT_SECS)
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
    ) -> AsyncIterator[Connection]:
        """Lends a connection that sees the rows of one tenant (None: of no tenant).

        Args:
            tenant_id: whose rows row-level security shows.
            timeout: seconds to wait for a free connection; at most `acquire_timeout_secs`.

        Raises:
            Unavailable: PostgreSQL is away, or every connection is taken (POOL_EXHAUSTED).
            Aborted, DeadlineExceeded, InvalidArgument: see `storage.driver_errors`.
        """
        borrowed = await self._acquire(timeout)
        session = _session_of(borrowed)
        try:
            with translated():
                await session.work_for(tenant_id)
                yield borrowed
        except BaseException:
            session.forget_tenant()
            raise
        finally:
            await self._release(borrowed, session)

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
        """Whether PostgreSQL answers `SELECT 1` within half a second."""
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_SECS):
                if self._exhausted():
                    # All connections being busy says nothing about the server.
                    probe = await asyncpg.connect(self._url)
                    try:
                        return bool(await probe.fetchval("SELECT 1") == 1)
                    finally:
                        probe.terminate()
                async with self.connection(None, timeout=_HEALTH_CLEANUP_SECS) as borrowed:
                    return bool(await borrowed.fetchval("SELECT 1") == 1)
        except (Unavailable, FailedPrecondition, OSError):
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    def pool_stats(self) -> PoolStats:
        """The pool's size and idle connections; zeros while it is closed."""
        if self._pool is None:
            return PoolStats(size=0, idle=0)
        return PoolStats(size=self._pool.get_size(), idle=self._pool.get_idle_size())

    async def _open_pool(self) -> Pool:
        settings = dict(_SETTINGS)
        if self.role is not None:
            settings["role"] = self.role
        with translated(connect_error):
            pool: Pool = asyncpg.create_pool(
                self._url,
                min_size=self.config.min_connections,
                max_size=self.config.max_connections,
                max_queries=2**62,
                max_inactive_connection_lifetime=self.config.idle_timeout_secs,
                command_timeout=self.config.query_timeout_secs,
                timeout=min(_HANDSHAKE_TIMEOUT_SECS, self.config.connect_timeout_secs),
                connection_class=_Session,
                server_settings=settings,
                init=self._prepare,
                reset=_keep_session,
            )
            await pool
            try:
                await pool.fetchval("SELECT 1")
            except BaseException:
                pool.terminate()
                raise
        return pool

    async def _prepare(self, session: OwnConnection) -> None:
        if not isinstance(session, _Session):
            raise TypeError(type(session))
        # Spread, so that connections opened together are not replaced together.
        lifetime = self.config.max_lifetime_secs * random.uniform(0.9, 1.0)  # noqa: S311 - no secret
        session.retire_at = time.monotonic() + lifetime
        session.knows_vectors = await register_vector_codecs(session)

    async def _acquire(self, wait_secs: float | None) -> Connection:
        if self._pool is None:
            raise FailedPrecondition("The database is not connected.", reason="NOT_CONNECTED")
        limit = self.config.acquire_timeout_secs
        with translated(connect_error):
            try:
                borrowed = await self._pool.acquire(
                    timeout=limit if wait_secs is None else max(0.0, min(limit, wait_secs))
                )
            except TimeoutError as error:
                if not self._exhausted():
                    raise
                raise Unavailable(
                    f"All {self.config.max_connections} connections to PostgreSQL are taken.",
                    reason="POOL_EXHAUSTED",
                    retry_after=limit,
                ) from error
        session = _session_of(borrowed)
        if not session.knows_vectors:
            # Opened before the first migration created the types.
            try:
                with translated():
                    session.knows_vectors = await register_vector_codecs(session)
            except BaseException:
                await self._pool.release(borrowed)
                raise
        return borrowed

    async def _release(self, borrowed: Connection, session: _Session) -> None:
        if time.monotonic() >= session.retire_at:
            # A closed connection goes back to the pool's empty places by itself.
            with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError):
                await asyncio.shield(session.close(timeout=1.0))
            return
        if self._pool is None:
            session.terminate()
            return
        release = asyncio.ensure_future(self._pool.release(borrowed))
        # A borrower that is cancelled here leaves nobody to take the outcome.
        release.add_done_callback(_take_outcome)
        try:
            await asyncio.shield(release)
        except _ENDED_IN_RELEASE:
            # The pool has thrown the connection away; what the loan did has its own outcome.
            session.terminate()

    def _exhausted(self) -> bool:
        stats = self.pool_stats()
        return stats.idle == 0 and stats.size >= self.config.max_connections


def _session_of(borrowed: Connection) -> _Session:
    session: _Session = borrowed._con  # type: ignore[attr-defined]  # missing in the stubs
    return session


def _take_outcome(release: asyncio.Future[None]) -> None:
    if not release.cancelled():
        release.exception()


async def _keep_session(_: OwnConnection) -> None:
    """Replaces asyncpg's reset, which costs a round trip and forgets the tenant."""
