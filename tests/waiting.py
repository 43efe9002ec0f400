"""Waits for what tells only who asks: another process, a counter, the kernel."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_SECS_BETWEEN = 0.02


async def until(condition: Callable[[], T | Awaitable[T]], seconds: float = 60) -> T:
    """The first of a condition's values that is true.

    Raises:
        TimeoutError: there was none for so long.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            value: T = await found if inspect.isawaitable(found) else found
            if value:
                return value
            await asyncio.sleep(_SECS_BETWEEN)
