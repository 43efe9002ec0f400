"""Small planted data: groups of users who like groups of entities, or nothing but chance."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.models.base import Interactions


def interactions(users, items, times, n_users, n_items) -> Interactions:
    return Interactions(
        np.asarray(users, np.int32),
        np.asarray(items, np.int32),
        np.ones(len(users), np.float32),
        np.asarray(times, np.int64),
        np.arange(n_items, dtype=np.int64) * 3 + 1,
        np.arange(n_users, dtype=np.int64) + 1000,
    )


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Interactions]:
    """A function that makes data; groups=1 is pure chance with popular and unpopular entities."""

    def make(groups=6, n_users=240, n_items=120, each=15, seed=5, times=None) -> Interactions:
        rng = np.random.default_rng(seed)
        popularity = 1 / np.arange(1, n_items + 1) ** 0.7
        users, items = [], []
        for user in range(n_users):
            liked = popularity * np.where(np.arange(n_items) % groups == user % groups, 1, 0.02)
            items.append(rng.choice(n_items, each, replace=False, p=liked / liked.sum()))
            users.append(np.full(each, user))
        n = n_users * each
        when = np.zeros(n) if times is None else times(rng, n)
        return interactions(np.concatenate(users), np.concatenate(items), when, n_users, n_items)

    return make
