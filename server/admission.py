"""Which calls a worker takes: as many as it may, and none that come while it drains."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from storage.exceptions import ResourceExhausted, Unavailable

T = TypeVar("T")

_RETRY_SECS = 0.1


def _shutting_down() -> Unavailable:
    return Unavailable("The server is about to stop.", reason="SHUTTING_DOWN", retry_after=0)


class Admission:
    """Counts the calls of one worker.

    grpc's own limit (maximum_concurrent_rpcs) is not used: it miscounts under cancellation.

    Args:
        limit: calls handled at a time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.draining = False
        self._idle = asyncio.Event()
        self._waiting: set[asyncio.Timeout] = set()

    def enter(self) -> None:
        """Takes a call; each one taken must `leave`.

        Raises:
            ResourceExhausted: the limit is reached (TOO_MANY_CALLS).
            Unavailable: the worker drains (SHUTTING_DOWN).
        """
        if self.draining:
            raise _shutting_down()
        if self.is_full:
            raise self.refusal()
        self.in_flight += 1

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        return self.in_flight >= self.limit

    def refusal(self) -> ResourceExhausted:
        """The error of a call that comes when the limit is reached."""
        return ResourceExhausted(
            f"The worker already handles {self.limit} calls.",
            reason="TOO_MANY_CALLS",
            metadata={"limit": str(self.limit)},
            retry_after=_RETRY_SECS,
        )

    def leave(self) -> None:
        """Ends a call that was taken."""
        self.in_flight -= 1
        if self.draining and not self.in_flight:
            self._idle.set()

    async def next_of(self, messages: AsyncIterator[T]) -> T:
        """The next message of a caller's stream; a stream that waits ends when draining begins.

        Raises:
            StopAsyncIteration: the caller has sent all.
            Unavailable: the worker drains (SHUTTING_DOWN).
        """
        return await self._unless_draining(lambda: anext(messages))

    async def pause(self, seconds: float) -> None:
        """Waits in a call that looks for news now and then; it ends when draining begins.

        Raises:
            Unavailable: the worker drains (SHUTTING_DOWN).
        """
        await self._unless_draining(lambda: asyncio.sleep(seconds))

    async def _unless_draining(self, wait: Callable[[], Awaitable[T]]) -> T:
        if self.draining:
            raise _shutting_down()
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._waiting.add(scope)
                try:
                    return await wait()
                finally:
                    self._waiting.discard(scope)
        except TimeoutError:
            if scope.expired():
                raise _shutting_down() from None
            raise

    def drain(self) -> None:
        """Refuses every call from now on; those under way go on, waiting streams end."""
        self.draining = True
        now = asyncio.get_running_loop().time()
        for scope in tuple(self._waiting):
            scope.reschedule(now)
        if not self.in_flight:
            self._idle.set()

    async def idle(self, timeout: float) -> bool:  # noqa: ASYNC109 - returns instead of raising
        """Waits until no call is left after `drain`; False when that takes too long."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
