"""Metrics of ranked lists, for many users at once; relevance is binary.

Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002 (NDCG);
Castells, Hurley and Vargas, "Novelty and diversity in recommender systems", 2015 (the rest).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

DIVERSITY_USERS = 2000
"""Diversity is the mean over at most so many users, evenly chosen: it costs the most."""

Ranked = NDArray[np.int32]
"""(users, max_k) items best first; -1 behind the end of a shorter list."""


def hits(ranked: Ranked, relevant: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Where a list's item is relevant for its user; shapes (users, max_k) and (users, items)."""
    n_items = relevant.shape[1]
    counts = np.diff(relevant.indptr)
    of_user = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    wanted = of_user * n_items + relevant.indices
    given = np.arange(len(ranked), dtype=np.int64)[:, None] * n_items + ranked
    return np.isin(given, wanted) & (ranked >= 0)


@dataclass(frozen=True, slots=True)
class _Lists:
    """Lists as numbers: hits (users, max_k), hits up to each place, relevant items (users,)."""

    hit: NDArray[np.float64]
    found: NDArray[np.float64]
    wanted: NDArray[np.float64]


def _recall(lists: _Lists, k: int) -> NDArray[np.float64]:
    return lists.found[:, k - 1] / np.maximum(lists.wanted, 1)


def _precision(lists: _Lists, k: int) -> NDArray[np.float64]:
    return lists.found[:, k - 1] / k


def _ndcg(lists: _Lists, k: int) -> NDArray[np.float64]:
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.clip(lists.wanted, 1, k).astype(np.int64) - 1]
    return np.asarray(lists.hit[:, :k] @ gains / ideal)


def _mrr(lists: _Lists, k: int) -> NDArray[np.float64]:
    return np.asarray((lists.hit[:, :k] / np.arange(1, k + 1)).max(axis=1))


def _map(lists: _Lists, k: int) -> NDArray[np.float64]:
    precisions = lists.hit[:, :k] * lists.found[:, :k] / np.arange(1, k + 1)
    return np.asarray(precisions.sum(axis=1) / np.maximum(lists.wanted, 1))


def _hit_rate(lists: _Lists, k: int) -> NDArray[np.float64]:
    return (lists.found[:, k - 1] > 0).astype(np.float64)


PER_USER: dict[str, Callable[[_Lists, int], NDArray[np.float64]]] = {
    "recall": _recall,
    "precision": _precision,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _map,
    "hit_rate": _hit_rate,
}
"""The metrics that every user has a value of."""


def ranking_metrics(
    ranked: Ranked,
    relevant: sparse.csr_matrix,
    ks: Sequence[int],
    names: Iterable[str] = tuple(PER_USER),
) -> dict[str, NDArray[np.float64]]:
    """The metrics that look at one user's list and what is relevant for that user.

    Precision divides by k however short the list is, average precision by all that is relevant,
    and the ideal of NDCG has min(k, relevant) hits. A user without anything relevant has zeros.

    Args:
        ranked: lists, at least max(ks) wide.
        relevant: CSR (users, items), its stored entries are relevant, none twice.
        names: which of PER_USER.

    Returns:
        "recall@20" and so on: float64 (users,).
    """
    hit = hits(ranked, relevant).astype(np.float64)
    wanted = np.diff(relevant.indptr).astype(np.float64)
    lists = _Lists(hit, np.cumsum(hit, axis=1), wanted)
    return {f"{name}@{k}": PER_USER[name](lists, k) for k in ks for name in names}


def list_metrics(ranked: Ranked, train: sparse.csr_matrix, ks: Sequence[int]) -> dict[str, float]:
    """What the lists are like, whatever is relevant.

    coverage: share of the catalogue that is in any list. novelty: mean self-information of the
    recommended items in bits, -log2 of the share of users who have the item (an item of nobody
    counts as one of half a user). diversity: mean distance of two items of a list, 1 less the
    cosine of who has them. popularity_bias: mean popularity of the recommended items over that of
    the training interactions' items, 1 being level.

    Args:
        ranked: lists, at least max(ks) wide.
        train: CSR (all users, items), its stored entries are interactions.

    Returns:
        "coverage@20" and so on; 0 where there is nothing to take a mean of.
    """
    popularity = np.bincount(train.indices, minlength=train.shape[1]).astype(np.float64)
    information = -np.log2(np.maximum(popularity, 0.5) / max(train.shape[0], 1))
    usual = float(popularity[train.indices].mean()) if train.nnz else 0.0
    values: dict[str, float] = {}
    for k in ks:
        lists = ranked[:, :k]
        items = lists[lists >= 0]
        some = len(items) > 0
        values |= {
            f"coverage@{k}": len(np.unique(items)) / max(train.shape[1], 1),
            f"novelty@{k}": float(information[items].mean()) if some else 0.0,
            f"diversity@{k}": _diversity(lists, train),
            f"popularity_bias@{k}": (
                float(popularity[items].mean()) / usual if some and usual else 0.0
            ),
        }
    return values


def _diversity(lists: Ranked, train: sparse.csr_matrix, batch: int = 500) -> float:
    """The sum of all pairs' cosines is the squared length of the sum of the unit vectors."""
    if len(lists) > DIVERSITY_USERS:
        lists = lists[np.linspace(0, len(lists) - 1, DIVERSITY_USERS).astype(np.intp)]
    owners = train.T.tocsr().astype(np.float32)
    owners.data[:] = 1
    lengths = np.sqrt(np.diff(owners.indptr))
    owners.data /= np.repeat(lengths, np.diff(owners.indptr)).astype(np.float32)
    total = pairs = 0.0
    for start in range(0, len(lists), batch):
        part = lists[start : start + batch]
        rows, columns = np.nonzero(part >= 0)
        items = part[rows, columns]
        chosen = sparse.csr_matrix(
            (np.ones(len(items), np.float32), (rows, items)), shape=(len(part), train.shape[1])
        )
        summed = chosen @ owners
        squares = np.asarray(summed.multiply(summed).sum(axis=1)).ravel()
        themselves = np.bincount(rows, weights=lengths[items] > 0, minlength=len(part))
        counts = np.bincount(rows, minlength=len(part))
        cosines = (squares - themselves) / 2
        possible = counts * (counts - 1) / 2
        total += float((possible - cosines).sum())
        pairs += float(possible.sum())
    return total / pairs if pairs else 0.0
