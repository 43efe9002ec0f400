"""Turns on the event loop: of many answers that could be worked on, one at a time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LOOPS = 16
_LOOPS_A_WAITER = 2
_MOST_LOOPS = 128


class Turns:
    """Does short pieces of work one after the other, and lets the loop run between any two.

    What is ready at the same time would otherwise run in one go, in which no new call is taken and
    no health check answered; and gRPC hands over one new call each time the loop runs. The more
    wait for their turn, the more calls are likely to stand before the door, so the loop runs more
    often: from 16 times (0.02 ms) to 128 (0.17 ms). For pieces of some milliseconds: what takes
    longer belongs in a thread.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def do(self, work: Callable[[], T]) -> T:
        """What the work gives or raises, when its turn has come."""
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            return work()
        finally:
            self._pass_on(min(_LOOPS + _LOOPS_A_WAITER * self._waiting, _MOST_LOOPS))

    def _pass_on(self, loops: int) -> None:
        """Ends a turn when the loop has run; whose turn it was does not wait for that."""
        if loops:
            asyncio.get_running_loop().call_soon(self._pass_on, loops - 1)
        else:
            self._turn.release()
