"""Metrics of what happens at every call, which are brought up to date some times a second.

Metrics that processes share take a lock and a write to mapped memory each time: what is counted
here costs a fraction of that.
"""

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

_SECS = 0.1


class Adds(Protocol):
    """A counter of prometheus_client."""

    def inc(self, amount: float = 1) -> None:
        """Adds to it."""
        ...


class Tally:
    """Counts one by one; the counter behind it hears of that a tenth of a second later, at once.

    Without an event loop the counter hears of each by itself.

    Attributes:
        total: what was counted so far.
    """

    __slots__ = ("_behind", "_told", "total")

    def __init__(self, behind: Adds) -> None:
        self._behind = behind
        self._told = 0
        self.total = 0

    def add(self) -> None:
        """Counts one."""
        self.total += 1
        if self.total - self._told == 1:
            _soon(self.tell)

    def tell(self) -> None:
        """Brings the counter up to date now."""
        new, self._told = self.total - self._told, self.total
        if new:
            self._behind.inc(new)


class Level:
    """Counts what begins and ends; the gauge behind it hears of both a tenth of a second later."""

    __slots__ = ("_behind", "_due", "_new")

    def __init__(self, behind: Adds) -> None:
        self._behind = behind
        self._new = 0
        self._due = False

    def change(self, by: int) -> None:
        """Adds to it, or takes away."""
        self._new += by
        if not self._due:
            self._due = True
            _soon(self.tell)

    def tell(self) -> None:
        """Brings the gauge up to date now."""
        self._due = False
        if self._new:
            new, self._new = self._new, 0
            self._behind.inc(new)


class AddsTimes(Protocol):
    """A histogram that takes many observations at once."""

    @property
    def bounds(self) -> Sequence[float]:
        """Upper ends of the buckets, ascending; the last is infinite."""
        ...

    def add(self, counts: Sequence[int], total: float) -> None:
        """Adds to it; counts by bucket, and the sum of what was observed."""
        ...


class TimeTally:
    """Observes one by one; the histogram behind it hears of all a tenth of a second later."""

    __slots__ = ("_behind", "_bounds", "_counts", "_new", "_total")

    def __init__(self, behind: AddsTimes) -> None:
        self._behind = behind
        self._bounds = behind.bounds
        self._counts = [0] * len(self._bounds)
        self._total = 0.0
        self._new = False

    def observe(self, seconds: float) -> None:
        """Takes one observation."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds
        if not self._new:
            self._new = True
            _soon(self.tell)

    def tell(self) -> None:
        """Brings the histogram up to date now."""
        if self._new:
            self._behind.add(self._counts, self._total)
            self._counts = [0] * len(self._bounds)
            self._total = 0.0
            self._new = False


def _soon(tell: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().call_later(_SECS, tell)
        return
    tell()
