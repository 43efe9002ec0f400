"""Answers that were given though they do not hold, made anew behind the calls that got them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeAlias

import structlog
from prometheus_client import Counter

from server.errors import domain_error
from server.wire_cache import Key
from storage.ending import end

Make: TypeAlias = Callable[[Key], Awaitable[None]]

RENEWALS = Counter(
    "penchant_wire_cache_renewals",
    "Answers made anew behind calls that were given an older one.",
    ["outcome"],
)
"""Outcomes: made, failed, put_off (as many as may be are under way)."""

_AT_ONCE = 8

_log = structlog.get_logger(__name__)


class Renewals:
    """One making an answer at a time, a few in all; beyond that the next call tries again.

    Args:
        deadline_secs: of each, as of a call that brings none.
    """

    def __init__(self, deadline_secs: float) -> None:
        self._deadline_secs = deadline_secs
        self._make: Make | None = None
        self._under_way: dict[Key, asyncio.Task[None]] = {}
        self._closed = False

    def made_by(self, make: Make) -> None:
        """Who makes the answers, and keeps them."""
        self._make = make

    def start(self, key: Key) -> None:
        """Has an answer made anew, unless that is under way already; never waits."""
        if self._make is None or self._closed or key in self._under_way:
            return
        if len(self._under_way) >= _AT_ONCE:
            RENEWALS.labels("put_off").inc()
            return
        # Nothing of the call that it was started from, which ends before.
        task = asyncio.create_task(self._renew(self._make, key), context=Context())
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def close(self) -> None:
        """Ends what is under way; nothing is started any more."""
        self._closed = True
        await end(*self._under_way.values())

    async def _renew(self, make: Make, key: Key) -> None:
        try:
            async with asyncio.timeout(self._deadline_secs):
                await make(key)
        except Exception as error:  # noqa: BLE001 - nobody waits for it who could be told
            RENEWALS.labels("failed").inc()
            fault = domain_error(error) is None and not isinstance(error, TimeoutError)
            write = _log.error if fault else _log.debug
            write(
                "answer not made anew",
                tenant_id=key[0],
                error=type(error).__name__,
                exc_info=error if fault else None,
            )
        else:
            RENEWALS.labels("made").inc()
