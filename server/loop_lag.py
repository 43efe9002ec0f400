"""A watch over the event loop: how late it runs what is due."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import Histogram

from storage.ending import end

LAG = Histogram(
    "penchant_loop_lag_seconds",
    "How late a worker's event loop ran what was due, looked at ten times a second.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)

_LOOK_SECS = 0.1
_LONG_SECS = 0.5

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def watched_loop() -> AsyncIterator[None]:
    """Measures the running loop while the block runs."""
    watch = asyncio.create_task(_watch())
    try:
        yield
    finally:
        await end(watch)


async def _watch() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LOOK_SECS
        await asyncio.sleep(_LOOK_SECS)
        lag = max(0.0, loop.time() - due)
        LAG.observe(lag)
        if lag > _LONG_SECS:
            _log.warning("the event loop stood still", seconds=round(lag, 2))
