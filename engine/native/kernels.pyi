"""Kernels in C: arrays must be contiguous and of the types that are named.

Scores, weights and sums are never NaN. A wrong type is a TypeError, a wrong length or order of an
array a ValueError, a place that does not exist an IndexError.
"""

import numpy as np
from numpy.typing import NDArray

class Sums:
    """Entities with the sums of what anchors add to them, as `engine/related.py` has them.

    Args:
        numbers: of each anchor int64 (n,), its neighbours.
        scores: of each anchor float32 (n,).
        weights: of the anchors; what one adds is its weight times the score.
        anchors: their numbers.
    """

    def __init__(
        self,
        numbers: list[NDArray[np.int64]],
        scores: list[NDArray[np.float32]],
        weights: list[float],
        anchors: list[int],
    ) -> None: ...
    def best(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The entities with the largest positive sums, and those: equal ones by number."""

    def because(self, wanted: NDArray[np.int64]) -> dict[int, list[int]]:
        """Of each wanted entity the (three) anchors that add most, equal ones by number."""

def blend(
    items: NDArray[np.intp],
    sources: NDArray[np.intp],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_items: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Totals (n_items,) and shares (n_items, n_sources) of `engine/blend.py:blend` by scores."""

def descending(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """The places of scores, the largest first, equal ones as they come."""
