"""Turns on the event loop: of many answers that could be worked on, one at a time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LOOPS = 16


class Turns:
    """Does short pieces of work one after the other, and lets the loop run between any two.

    What is ready at the same time would otherwise run in one go, in which no new call is taken and
    no health check answered; and gRPC hands over one new call each time the loop runs. For pieces
    of some milliseconds: what takes longer belongs in a thread.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def do(self, work: Callable[[], T]) -> T:
        """What the work gives or raises, when its turn has come."""
        async with self._turn:
            result = work()
            for _ in range(_LOOPS):
                await asyncio.sleep(0)
            return result
