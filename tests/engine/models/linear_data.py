"""Small random interactions, and dense references to compare sparse models with."""

import numpy as np
from numpy.typing import NDArray

from engine.models.base import Cancelled, Interactions
from engine.models.forms.neighbours import NeighbourMatrix


def random_interactions(
    n_users: int = 60, n_items: int = 25, seed: int = 0, share: float = 0.25
) -> Interactions:
    """Interactions of all weight 1 in which every item and user occurs."""
    rng = np.random.default_rng(seed)
    liked = rng.random((n_users, n_items)) < share
    liked[np.arange(n_users), np.arange(n_users) % n_items] = True
    liked[np.arange(n_items) % n_users, np.arange(n_items)] = True
    return from_dense(liked.astype(np.float32))


def from_dense(weights: NDArray[np.float32]) -> Interactions:
    """Interactions of the entries that are not zero, a second apart, entity numbers 10, 20, ..."""
    users, items = np.nonzero(weights)
    return Interactions(
        users.astype(np.int32),
        items.astype(np.int32),
        weights[users, items].astype(np.float32),
        np.arange(len(users), dtype=np.int64),
        np.arange(1, weights.shape[1] + 1, dtype=np.int64) * 10,
        np.arange(weights.shape[0], dtype=np.int64),
    )


def dense_weighted(matrix: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    """Du^-a R Di^-b."""
    return matrix.sum(1)[:, None] ** -a * matrix * matrix.sum(0) ** -b


def dense(model: NeighbourMatrix) -> NDArray[np.float64]:
    """A model's rows as a dense matrix."""
    n = len(model.entity_nos)
    full = np.zeros((n, n))
    rows = np.repeat(np.arange(n), np.diff(model.indptr))
    full[rows, model.indices] = model.data
    return full


def without_diagonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix with a diagonal of zeros."""
    return matrix - np.diag(np.diag(matrix))


class CancelAfter:
    """Progress that stops the work at its n-th call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, phase: str, share: float) -> None:
        assert phase
        assert 0 <= share <= 1 + 1e-9
        self.left -= 1
        if self.left <= 0:
            raise Cancelled
