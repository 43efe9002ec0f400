"""Tallies: every count arrives, and soon."""

import asyncio

from prometheus_client import CollectorRegistry, Counter

from server.tally import Tally


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
        async with asyncio.timeout(5):
            while value(counter) < expected:  # noqa: ASYNC110 - a counter has nothing to wait for
                await asyncio.sleep(0.01)
        assert value(counter) == expected


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
