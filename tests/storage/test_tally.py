"""Tallies: every count arrives, and soon."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.metrics import Seconds
from storage.tally import Level, Tally, TimeTally
from tests.waiting import until


def make() -> tuple[Tally, Counter]:
    counter = Counter("things", "Things.", registry=CollectorRegistry())
    return Tally(counter), counter


def value(counter: Counter) -> float:
    (metric,) = counter.collect()
    return metric.samples[0].value


async def test_counter_hears_of_all_that_was_counted_some_times_a_second() -> None:
    tally, counter = make()
    for expected in (3, 6):
        for _ in range(3):
            tally.add()
        assert (tally.total, value(counter)) == (expected, expected - 3)
        await until(lambda: value(counter) == expected)  # noqa: B023


async def test_counter_hears_of_each_once_when_it_is_told_before_its_time() -> None:
    tally, counter = make()
    tally.add()
    tally.tell()
    tally.tell()
    assert value(counter) == 1
    tally.add()
    await asyncio.sleep(0.3)
    assert value(counter) == tally.total == 2


def test_without_a_loop_the_counter_hears_of_each() -> None:
    tally, counter = make()
    tally.add()
    tally.add()
    assert value(counter) == 2


async def test_gauge_hears_of_what_began_and_ended() -> None:
    gauge = Gauge("calls", "Calls.", registry=CollectorRegistry())

    def shown() -> float:
        (metric,) = gauge.collect()
        return metric.samples[0].value

    level = Level(gauge)
    for by, expected in ((1, 1), (1, 2), (-1, 1), (-1, 0)):
        level.change(by)
        level.change(1)
        level.change(-1)
        await until(lambda: shown() == expected)  # noqa: B023


def observed(times: Histogram) -> dict[str, float]:
    """Samples but for the time of the making, by bound or name."""
    (metric,) = times.collect()
    return {
        sample.labels.get("le", sample.name): sample.value
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


TIMES = [0.0, 0.09, 0.1, 0.2, 1.0, 1.5, 100.0, 0.1]


async def test_times_arrive_as_if_each_had_been_observed() -> None:
    expected = Histogram("times", "Times.", buckets=(0.1, 1), registry=CollectorRegistry())
    times = Seconds("times", "Times.", buckets=(0.1, 1), registry=CollectorRegistry())
    tally = TimeTally(times)
    for seconds in TIMES:
        expected.observe(seconds)
        tally.observe(seconds)
    assert observed(times)["times_count"] == 0

    tally.tell()
    tally.tell()

    assert observed(times) == pytest.approx(observed(expected))


async def test_times_are_told_by_themselves() -> None:
    times = Seconds("times", "Times.", buckets=(0.1, 1), registry=CollectorRegistry())
    tally = TimeTally(times)
    for expected in (2, 4):
        tally.observe(0.5)
        tally.observe(0.05)
        await until(lambda: observed(times)["times_count"] == expected)  # noqa: B023


def test_without_a_loop_times_are_told_at_once() -> None:
    times = Seconds("times", "Times.", buckets=(0.1, 1), registry=CollectorRegistry())
    TimeTally(times).observe(0.5)
    assert observed(times)["times_count"] == 1
