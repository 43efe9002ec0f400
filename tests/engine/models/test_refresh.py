"""Rows made anew: those of a whole fit, beside rows that stay."""

import numpy as np
import pytest
from scipy import sparse

from engine.models import BY_NAME
from engine.models.base import Interactions, no_progress
from engine.models.forms import NeighbourMatrix


def some(seed: int = 3, n_users: int = 60, n_items: int = 30, n: int = 700) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(0, n_users, n).astype(np.int32),
        np.minimum(rng.geometric(0.12, n) - 1, n_items - 1).astype(np.int32),
        np.ones(n, np.float32),
        rng.integers(1_700_000_000, 1_700_200_000, n),
        np.arange(100, 100 + 2 * n_items, 2, dtype=np.int64),
        np.arange(n_users, dtype=np.int64),
    )


REFRESHED = ("item_knn", "covisitation")


@pytest.mark.parametrize("name", REFRESHED)
@pytest.mark.parametrize("settings", [{}, {"k": 5}])
def test_refreshed_rows_are_those_of_a_whole_fit(name: str, settings: dict[str, int]) -> None:
    algorithm, data = BY_NAME[name], some()
    config = algorithm.config(**settings)
    whole = algorithm.fit(data, config, no_progress)
    assert isinstance(whole, NeighbourMatrix)
    places = np.asarray([0, 3, 7, 29], np.int32)
    assert algorithm.refresh is not None
    rows = algorithm.refresh(data, config, places, no_progress)
    np.testing.assert_allclose(
        rows.toarray(), whole.matrix()[places].toarray(), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("name", REFRESHED)
def test_refresh_of_the_touched_rows_brings_new_entities_in(name: str) -> None:
    algorithm, data = BY_NAME[name], some()
    config = algorithm.config()
    old = data.take(data.items < 25)
    known = Interactions(
        old.users, old.items, old.weights, old.times, data.entity_nos[:25], data.user_keys
    )
    base = algorithm.fit(known, config, no_progress)
    assert isinstance(base, NeighbourMatrix)
    places = np.arange(30, dtype=np.int32)
    assert algorithm.refresh is not None
    merged = base.with_rows(
        data.entity_nos, places, algorithm.refresh(data, config, places, no_progress)
    )
    whole = algorithm.fit(data, config, no_progress)
    assert isinstance(whole, NeighbourMatrix)
    np.testing.assert_allclose(
        merged.matrix().toarray(), whole.matrix().toarray(), rtol=1e-5, atol=1e-7
    )


def test_with_rows_keeps_the_others_and_drops_entities_that_are_gone() -> None:
    nos = np.asarray([10, 20, 30], np.int64)
    dense = np.asarray([[0, 1, 2], [3, 0, 4], [5, 6, 0]], np.float32)
    base = NeighbourMatrix.from_matrix(nos, sparse.csr_matrix(dense), last=7)
    fresh = sparse.csr_matrix(np.asarray([[0, 0, 9]], np.float32))
    merged = base.with_rows(np.asarray([10, 25, 30], np.int64), np.asarray([0], np.int32), fresh)
    assert merged.matrix().toarray().tolist() == [[0, 0, 9], [0, 0, 0], [5, 0, 0]]
    assert merged.settings() == base.settings()
    assert merged.entity_nos.tolist() == [10, 25, 30]
