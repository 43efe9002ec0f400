"""How long named pieces of work take, kept in memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """What one kind of work has taken so far.

    Attributes:
        query_type: its name.
        count: how often it was done.
        errors: how often it ended with an exception.
        execution_time: seconds on average.
        slowest: seconds of the slowest time.
    """

    query_type: str
    count: int
    errors: int
    execution_time: float
    slowest: float


class Timings:
    """Counts and times work by name."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, int, float, float]] = {}

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Counts a block under a name, with the seconds that it takes."""
        began = time.perf_counter()
        failed = 1
        try:
            yield
            failed = 0
        finally:
            secs = time.perf_counter() - began
            count, errors, total, slowest = self._kept.get(name, (0, 0, 0.0, 0.0))
            self._kept[name] = (count + 1, errors + failed, total + secs, max(slowest, secs))

    def all(self) -> list[Timing]:
        """What was measured so far, sorted by name."""
        return [
            Timing(name, count, errors, total / count, slowest)
            for name, (count, errors, total, slowest) in sorted(self._kept.items())
        ]
