"""The breaker: when it opens, when a try is due, and what the metrics say."""

import asyncio

from prometheus_client import REGISTRY

from storage.breaker import Breaker


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker("a", failures=3)
    for _ in range(5):
        breaker.failed(OSError())
        breaker.failed(OSError())
        breaker.succeeded()
    assert breaker.closed
    for _ in range(3):
        breaker.failed(OSError())
    assert not breaker.closed


async def test_breaker_lets_one_try_a_pause_and_waits_longer_each_time() -> None:
    breaker = Breaker("b", failures=1, first_pause_secs=0.05, longest_pause_secs=0.1)
    breaker.failed(OSError())
    assert not breaker.try_due()
    await asyncio.sleep(0.06)
    assert breaker.try_due()
    assert not breaker.try_due()
    pauses = []
    for _ in range(3):
        breaker.failed(OSError())
        pauses.append(breaker.pause_secs)
    assert [round(pause, 2) for pause in pauses] == [0.1, 0.1, 0.1]
    breaker.succeeded()
    assert (breaker.closed, breaker.pause_secs, breaker.try_due()) == (True, 0.0, False)


def test_breaker_is_seen_in_the_metrics() -> None:
    breaker = Breaker("c", failures=1)
    assert metric("penchant_breaker_open", component="c") == 0
    breaker.trip(OSError())
    breaker.trip(OSError())
    assert metric("penchant_breaker_open", component="c") == 1
    breaker.succeeded()
    breaker.trip(OSError())
    breaker.forget()
    assert metric("penchant_breaker_open", component="c") == 0
    for state in ("open", "closed"):
        assert metric("penchant_breaker_changes_total", component="c", state=state) == 2
