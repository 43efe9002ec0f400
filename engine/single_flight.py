"""Single flight: what several calls want at the same time is done once for all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting = 0


class SingleFlight(Generic[T]):
    """Runs work once a key for all that ask while it is under way.

    One caller that goes away takes nothing from the others; when the last one has gone away, the
    work is cancelled.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, _Flight[T]] = {}

    async def do(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives or raises, whoever of the callers began it."""
        flight = self._under_way.get(key)
        if flight is None:

            async def run() -> T:
                return await work()

            flight = _Flight(asyncio.create_task(run()))
            self._under_way[key] = flight
            landing = flight
            flight.task.add_done_callback(lambda _: self._landed(key, landing))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # Whoever asks from now on must not wait for what is being cancelled.
                self._forget(key, flight)
                flight.task.cancel()

    def _landed(self, key: str, flight: _Flight[T]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            # Every caller may have gone away: an error that nobody waits for is no warning.
            flight.task.exception()

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self._under_way.get(key) is flight:
            del self._under_way[key]
