"""Whether PostgreSQL is away: found out by looking, and what waits for it is let go at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from storage.breaker import Breaker
from storage.driver_errors import RETRY_AFTER_SECS
from storage.ending import end
from storage.exceptions import Unavailable

_PAUSE_SECS = 0.5  # between looks
_LOOK_SECS = 1.0
_LATE_SECS = 0.1  # beyond which it was this process that stood still
_MOST_LATE = 2  # in a row: one that always stands still must find out, too

Look = Callable[[], Awaitable[datetime | None]]
"""Looks with a connection of its own: when the server started; None: it answers, but lends none.

Raises Unavailable where it does not answer.
"""


class Connections(Protocol):
    """Connections that can be ended."""

    def cut(self, server_started: datetime | None) -> None:
        """Ends those to any server but the one that started then; None: all of them."""
        ...


class Outage:
    """Knows whether PostgreSQL is away.

    A failure of a loan only raises suspicion: then one look with a fresh connection decides, so
    that a slow moment of this process ends nobody's work. While it is away, a look every half a
    second finds its return.

    Args:
        component: its name in metrics and the log.
        look: see `Look`.

    Attributes:
        pools: whose connections are ended when it is found away, or to be another server.
    """

    def __init__(self, component: str, look: Look) -> None:
        self._look = look
        self.pools: list[Connections] = []
        self._breaker = Breaker(component, failures=1, first_pause_secs=_PAUSE_SECS)
        self._looking: asyncio.Task[None] | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._heard_at = 0.0

    @property
    def away(self) -> bool:
        """Whether it is; then nothing is to be asked of it."""
        return not self._breaker.closed

    def check(self) -> None:
        """Raises Unavailable while it is away."""
        if self.away:
            raise Unavailable(
                "PostgreSQL does not answer.",
                reason="DATABASE_UNAVAILABLE",
                retry_after=RETRY_AFTER_SECS,
            )

    @asynccontextmanager
    async def bounded(self, seconds: float) -> AsyncIterator[None]:
        """A wait of so many seconds at most, which ends at once when PostgreSQL is found away.

        Raises:
            TimeoutError: the time is over.
            Unavailable: it is away.
        """
        self.check()
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._waits.add(scope)
                try:
                    yield
                finally:
                    self._waits.discard(scope)
        except TimeoutError:
            self.check()
            raise

    def heard(self) -> None:
        """Something was answered: a look that takes too long then only says that it is slow."""
        self._heard_at = time.monotonic()

    @property
    def waiting(self) -> int:
        """How many wait in `bounded`."""
        return len(self._waits)

    def suspect(self) -> None:
        """Something went wrong that PostgreSQL's being away would explain: look, once at a time."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._find_out())

    async def close(self) -> None:
        """Ends the looking."""
        await end(self._looking)
        self._breaker.forget()

    async def _find_out(self) -> None:
        late_looks = 0
        while True:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(_LOOK_SECS):
                    started_at = await self._look()
            except (TimeoutError, Unavailable) as error:
                if isinstance(error, TimeoutError):
                    if self._heard_at > begun:
                        continue  # slow
                    stood_still = time.monotonic() - begun > _LOOK_SECS + _LATE_SECS
                    if stood_still and late_looks < _MOST_LATE:
                        late_looks += 1  # what came meanwhile may lie unread
                        continue
                if not self.away:
                    self._breaker.trip(error)
                    self._let_go()
            else:
                # A failover leaves connections to the former server, which may hang for ever.
                if started_at is not None:
                    for pool in self.pools:
                        pool.cut(started_at)
                self._breaker.succeeded()
            late_looks = 0
            # Also after a good look: a storm of failures must not become one of looks.
            await asyncio.sleep(_PAUSE_SECS)
            if not self.away:
                return

    def _let_go(self) -> None:
        now = asyncio.get_running_loop().time()
        for scope in tuple(self._waits):
            scope.reschedule(now)
        for pool in self.pools:
            pool.cut(None)
