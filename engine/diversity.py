"""Maximal marginal relevance.

After Carbonell, Goldstein: "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries", SIGIR 1998.
"""

import numpy as np
from numpy.typing import NDArray


def mmr(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], k: int, trade_off: float
) -> list[int]:
    """Pick up to k items, each for its score less its likeness to those picked before.

    Each step takes the largest `(1 - trade_off) * score - trade_off * max cosine to the picked`;
    of equals the first. O(k n d).

    Args:
        scores: (n,), best within [0, 1] so that they weigh like cosines.
        vectors: (n, d) of length one; a row of zeros has no vector and resembles nothing.
        k: how many to pick; fewer when n is smaller.
        trade_off: 0 keeps the order of the scores, 1 looks at diversity alone (after the best).

    Returns:
        Row numbers in the order picked, none twice.
    """
    if not 0.0 <= trade_off <= 1.0:
        raise ValueError(f"trade_off must lie within 0 and 1, not {trade_off}")
    count = min(k, len(scores))
    if count <= 0:
        return []
    if trade_off == 0.0:
        return [int(row) for row in np.argsort(-scores, kind="stable")[:count]]
    relevance = (1.0 - trade_off) * scores.astype(np.float64)
    # The first is the best by score whatever the trade-off: nothing resembles it yet.
    picked = [int(np.argmax(scores))]
    likeness = np.full(len(scores), -np.inf)
    taken = np.zeros(len(scores), dtype=np.bool_)
    while len(picked) < count:
        taken[picked[-1]] = True
        np.maximum(likeness, vectors @ vectors[picked[-1]], out=likeness)
        gain = relevance - trade_off * likeness
        gain[taken] = -np.inf
        picked.append(int(np.argmax(gain)))
    return picked
