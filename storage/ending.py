"""How tasks in the background are ended."""

import asyncio
from typing import Any


async def end(*tasks: asyncio.Task[Any] | None, again_secs: float = 0.5) -> None:
    """Cancels tasks until they have ended; what they gave or raised is dropped.

    Once is not enough: on Python 3.11 `asyncio.wait_for`, which redis-py sends through, loses a
    cancellation that arrives in the moment its work is done (python/cpython#86296), and a task that
    loops goes on for ever.

    Args:
        again_secs: longer than a task takes to clean up, which the next cancellation would end.
    """
    given = [task for task in tasks if task is not None]
    while left := [task for task in given if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=again_secs)
    for task in given:
        if not task.cancelled():
            # What nobody asks for is reported as lost.
            task.exception()
