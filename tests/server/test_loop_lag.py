"""The watch over the event loop sees what blocks it."""

import asyncio
import time

from structlog.testing import capture_logs

from server.loop_lag import LAG, watched_loop


def seen(buckets_from: float) -> float:
    """How often the loop was later than so many seconds."""
    samples = {
        s.labels["le"]: s.value
        for metric in LAG.collect()
        for s in metric.samples
        if s.name.endswith("_bucket")
    }
    return samples["+Inf"] - samples[str(buckets_from)]


async def test_blocked_loop_is_measured_and_told() -> None:
    before = seen(0.5)
    with capture_logs() as lines:
        async with watched_loop():
            await asyncio.sleep(0.15)
            time.sleep(0.8)  # noqa: ASYNC251 - the fault
            await asyncio.sleep(0.15)
    # More than once where the machine itself stands still.
    assert seen(0.5) >= before + 1
    assert {line["event"] for line in lines} == {"the event loop stood still"}
