"""Percentile bootstrap over users (Efron and Tibshirani, "An introduction to the bootstrap")."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 42
_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over users and the bounds of its interval."""

    mean: float
    low: float
    high: float


def intervals(
    per_user: Mapping[str, NDArray[np.float64]],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> dict[str, Interval]:
    """Means of many metrics with their intervals, all from the same resamples of users.

    Args:
        per_user: values (users,), all equally long. No user at all: zeros.
        level: share of the resampled means between the bounds.
    """
    if not per_user:
        return {}
    values = np.column_stack(list(per_user.values()))
    if not len(values):
        return dict.fromkeys(per_user, Interval(0.0, 0.0, 0.0))
    resampled = np.concatenate(
        [counts @ values / len(values) for counts in _draws(len(values), resamples, seed)]
    )
    edges = [(1 - level) / 2, (1 + level) / 2]
    lows, highs = np.quantile(resampled, edges, axis=0)
    middles = values.mean(axis=0)
    return {
        name: Interval(float(middle), float(low), float(high))
        for name, middle, low, high in zip(per_user, middles, lows, highs, strict=True)
    }


def difference(
    of: NDArray[np.float64],
    against: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """The mean difference of two models on the same users; paired, so what users share cancels.

    Both (users,), in the same order. The difference is established when 0 lies outside.
    """
    found = intervals({"": of - against}, resamples=resamples, level=level, seed=seed)
    return found[""]


def _draws(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each of n users is in each resample: (some, n), together so many resamples."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // n)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts.astype(np.float64)
