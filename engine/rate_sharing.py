"""Keeps a worker's shares of tenants' rates in step with the other workers'."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from engine.rate import PRESSED_SECS, RequestRates
from storage.ending import end
from storage.exceptions import Unavailable
from storage.redis_rates import RedisRates


async def share_rates(
    rates: RequestRates, store: RedisRates, clock: Callable[[], float] = time.monotonic
) -> None:
    """Asks for shares again and again, until cancelled.

    While Redis is away the shares that were given end, and every worker has an equal one.
    """
    while True:
        await asyncio.sleep(PRESSED_SECS)
        wanted = rates.due()
        if wanted:
            asked_at = clock()
            with suppress(Unavailable):
                rates.share(await store.shares(wanted), asked_at)
        rates.lapse()


@asynccontextmanager
async def sharing(rates: RequestRates, store: RedisRates) -> AsyncIterator[None]:
    """Shares rates while the block runs; closes the store in the end."""
    task = asyncio.create_task(share_rates(rates, store))
    try:
        yield
    finally:
        await end(task)
        await store.close()
