"""Content neighbours against plain cosines."""

from dataclasses import replace

import numpy as np
import pytest

from engine.models.base import Cancelled, no_progress
from engine.models.content import CONTENT, ContentConfig, fit
from storage.exceptions import FailedPrecondition
from tests.engine.models.linear_data import (
    CancelAfter,
    dense,
    random_interactions,
    without_diagonal,
)

VECTORS = np.random.default_rng(0).standard_normal((25, 8)).astype(np.float16)
DATA = replace(random_interactions(), vectors=VECTORS)


def test_rows_are_the_positive_cosines() -> None:
    units = VECTORS.astype(float) / np.linalg.norm(VECTORS.astype(float), axis=1, keepdims=True)
    expected = np.maximum(without_diagonal(units @ units.T), 0)
    np.testing.assert_allclose(dense(fit(DATA, ContentConfig(), no_progress)), expected, atol=1e-5)


def test_rows_keep_the_nearest_above_the_minimum() -> None:
    whole = dense(fit(DATA, ContentConfig(), no_progress))
    actual = dense(fit(DATA, ContentConfig(k=3, minimum=0.5), no_progress))
    assert (np.count_nonzero(actual, axis=1) <= 3).all()
    assert actual[actual > 0].min() > 0.5
    expected = np.where(whole > 0.5, whole, 0)
    np.testing.assert_allclose(np.sort(actual)[:, -3:], np.sort(expected)[:, -3:], atol=1e-6)


def test_entities_without_a_vector_have_no_neighbours() -> None:
    vectors = VECTORS.copy()
    vectors[4] = 0
    actual = dense(fit(replace(DATA, vectors=vectors), ContentConfig(), no_progress))
    assert np.isfinite(actual).all()
    assert not actual[4].any()
    assert not actual[:, 4].any()


@pytest.mark.parametrize("vectors", [None, np.zeros((25, 8), np.float16)], ids=["none", "zeros"])
def test_a_catalogue_without_vectors_is_not_enough(vectors: np.ndarray | None) -> None:
    with pytest.raises(FailedPrecondition, match="there are 0") as raised:
        fit(replace(DATA, vectors=vectors), ContentConfig(), no_progress)
    assert raised.value.reason == "NOT_ENOUGH_DATA"


def test_a_fit_ends_when_it_is_cancelled() -> None:
    with pytest.raises(Cancelled):
        fit(DATA, ContentConfig(), CancelAfter(2))


def test_no_interactions_are_needed() -> None:
    nothing = np.empty(0, np.intp)
    model = CONTENT.fit(DATA.take(nothing), ContentConfig(last=5), no_progress)
    assert len(model.arrays()["data"])
    assert model.settings()["last"] == 5
    assert CONTENT.needs.interactions == 0
