"""A small world in which users like the entities of their own group."""

import numpy as np
from scipy import sparse

from engine.models.base import Interactions
from engine.models.forms import History

GROUPS = 4
USERS = 160
ITEMS = 80
DAY = 86400


def group_of(items) -> np.ndarray:
    """The group of each entity's place; the last entity is in none."""
    return np.asarray(items) * GROUPS // (ITEMS - 1)


def planted(seed: int = 7) -> tuple[Interactions, sparse.csr_matrix]:
    """Interactions to learn from, and what was held out of them, as CSR (users, items).

    A user has half of their group and a few of the others. The last entity has no interaction.
    """
    rng = np.random.default_rng(seed)
    chance = np.where(
        group_of(np.arange(ITEMS))[None] == np.arange(USERS)[:, None] % GROUPS, 0.5, 0.03
    )
    chance[:, -1] = 0
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < chance)
    held = rng.random(len(users)) < 0.2
    held_out = sparse.csr_matrix(
        (np.ones(held.sum(), np.float32), (users[held], items[held])), shape=(USERS, ITEMS)
    )
    users, items = users[~held], items[~held]
    # Each user's interactions are minutes apart, so that sessions see them together.
    times = 1_700_000_000 + users * DAY // 4 + rng.integers(0, 3600, len(users))
    vectors = np.zeros((ITEMS, GROUPS + 2), np.float16)
    vectors[np.arange(ITEMS - 1), group_of(np.arange(ITEMS - 1))] = 1
    vectors[:, GROUPS] = rng.random(ITEMS) * 0.1
    data = Interactions(
        users.astype(np.int32),
        items.astype(np.int32),
        rng.choice([1.0, 2.0], len(users)).astype(np.float32),
        times.astype(np.int64),
        np.arange(ITEMS, dtype=np.int64) * 3 + 10,
        np.arange(USERS, dtype=np.int64) + 1000,
        vectors,
    )
    return data, held_out


def history(items, weights=None, ages=None) -> History:
    """A history of places, newest first; weights one and ages none where not given."""
    n = len(items)
    return History(
        np.asarray(items, np.int32).reshape(n),
        np.asarray(np.ones(n) if weights is None else weights, np.float32),
        np.asarray(np.zeros(n) if ages is None else ages, np.float32),
    )


def random_rows(n: int, m: int, density: float, seed: int) -> sparse.csr_matrix:
    """Random float32 CSR (n, m) of values from 0 to 1."""
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n, m)) < density, rng.random((n, m)), 0)
    return sparse.csr_matrix(dense.astype(np.float32))


def recall(model, train: sparse.csr_matrix, held_out: sparse.csr_matrix, k: int = 10) -> float:
    """Mean share of the held-out entities among the k best, training ones masked."""
    scores = np.array(model.score_all(train))
    scores[train.nonzero()] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(held_out.toarray(), best, axis=1).sum(axis=1)
    sizes = np.diff(held_out.indptr)
    return float((hits[sizes > 0] / np.minimum(sizes[sizes > 0], k)).mean())
