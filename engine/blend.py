"""One score from several sources, and each source's share in it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine import native

RRF_K = 60
"""Constant of reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009)."""

SCORE_FLOOR = 0.05
"""What a source's last candidate keeps: to be a candidate at all is worth something."""

Method = Literal["scores", "rrf"]


@dataclass(frozen=True, slots=True)
class Blend:
    """Per item: total (n_items,) within [0, 1], and shares (n_items, n_sources), float64.

    A row of shares sums to 1, or is all zero where the total is zero (no source with a weight).
    """

    totals: NDArray[np.float64]
    shares: NDArray[np.float64]


def blend(
    items: NDArray[np.intp],
    sources: NDArray[np.intp],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    n_items: int,
    method: Method = "scores",
) -> Blend:
    """Blend candidates; row i says that source sources[i] offers item items[i] at scores[i].

    `scores` brings each source's scores to [0.05, 1] by their minimum and maximum (all 1 where
    they are equal); `rrf` looks at ranks alone: `61 / (60 + rank)`, equal scores ranked as they
    come. The total is the mean over the sources that offer anything, by weight. Where a source
    offers an item twice, the better one counts.

    Args:
        items: (n,) item numbers below n_items.
        sources: (n,) source numbers below len(weights).
        scores: (n,) finite, larger is better; comparable within a source only.
        weights: (n_sources,) finite and not negative.
        n_items: how many items there are.
        method: `scores` or `rrf`.
    """
    if native.compiled and method == "scores":
        return Blend(*native.kernels.blend(items, sources, scores, weights, n_items))
    if not np.all(np.isfinite(weights) & (weights >= 0)):
        raise ValueError("weights of sources must be finite and not negative")
    parts = np.zeros((n_items, len(weights)))
    weight_present = 0.0
    normalise = _by_rank if method == "rrf" else _by_range
    for source, weight in enumerate(weights):
        rows = np.flatnonzero(sources == source)
        if not len(rows) or not weight:
            continue
        weight_present += float(weight)
        np.maximum.at(parts[:, source], items[rows], weight * normalise(scores[rows]))
    totals = parts.sum(axis=1)
    shares = np.divide(parts, totals[:, None], out=parts, where=totals[:, None] > 0)
    if weight_present:
        totals /= weight_present
    return Blend(np.minimum(totals, 1.0), shares)


def _by_range(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = scores.min(), scores.max()
    if high == low:
        return np.ones(len(scores))
    scaled: NDArray[np.float64] = SCORE_FLOOR + (1.0 - SCORE_FLOOR) * (scores - low) / (high - low)
    return scaled


def _by_rank(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    fused: NDArray[np.float64] = (RRF_K + 1) / (RRF_K + ranks)
    return fused
