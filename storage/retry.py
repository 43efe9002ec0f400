"""Trying again: only what may be repeated, and only while the caller still waits."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from storage.exceptions import Aborted, StaleTenant, Unavailable

T = TypeVar("T")


def _worth_repeating(error: BaseException) -> bool:
    # A stale tenant must be read again first, and an empty pool only fills up further.
    if isinstance(error, StaleTenant):
        return False
    if isinstance(error, Unavailable):
        return error.reason != "POOL_EXHAUSTED"
    return isinstance(error, Aborted)


async def retry_transient(
    work: Callable[[], Awaitable[T]], *, deadline_secs: float = 5.0, attempts: int = 5
) -> T:
    """Runs idempotent work, again when it was aborted or PostgreSQL was away for a moment.

    Waits for exponentially growing random times between attempts and never past the deadline.

    Args:
        work: makes one attempt; called anew for each.
        deadline_secs: seconds from now after which no new attempt begins.
        attempts: most attempts.

    Raises:
        Aborted, Unavailable: the last attempt's error. StaleTenant and POOL_EXHAUSTED at once.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception(_worth_repeating),
        wait=wait_random_exponential(multiplier=0.03, max=1.0),
        stop=stop_before_delay(deadline_secs) | stop_after_attempt(attempts),
        reraise=True,
    )

    async def attempt() -> T:
        # tenacity awaits what it knows for a coroutine function, which a lambda is not.
        return await work()

    return await retrying(attempt)
