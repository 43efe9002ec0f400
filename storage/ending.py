"""How tasks in the background are ended."""

import asyncio
from typing import Any


async def end(*tasks: asyncio.Task[Any] | None, again_secs: float = 0.5) -> None:
    """Cancels tasks until they have ended; what they gave or raised is dropped.

    Once is not enough: on Python 3.11 `asyncio.wait_for`, which redis-py sends through, loses a
    cancellation that arrives in the moment its work is done (python/cpython#86296), and a task that
    loops goes on for ever. Who is cancelled while they end waits all the same, and is then.

    Args:
        again_secs: longer than a task takes to clean up, which the next cancellation would end.
    """
    loop = asyncio.get_running_loop()
    given = [task for task in tasks if task is not None]
    interrupted: asyncio.CancelledError | None = None
    due = loop.time()
    while left := [task for task in given if not task.done()]:
        if loop.time() >= due:
            for task in left:
                task.cancel()
            due = loop.time() + again_secs
        try:
            await asyncio.wait(left, timeout=max(0.0, due - loop.time()))
        except asyncio.CancelledError as error:
            # Who is being ended, too, ends what it has begun first: nobody else would.
            interrupted = error
    for task in given:
        if not task.cancelled():
            # What nobody asks for is reported as lost.
            task.exception()
    if interrupted is not None:
        raise interrupted
