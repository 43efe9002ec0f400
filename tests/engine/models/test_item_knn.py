"""Item-kNN against the plain formulas, and which way its rows point."""

import numpy as np
import pytest

from engine.models.base import no_progress
from engine.models.forms.base import History
from engine.models.item_knn import ITEM_KNN, ItemKnnConfig, fit
from tests.engine.models.linear_data import (
    dense,
    from_dense,
    random_interactions,
    without_diagonal,
)


def test_cosines_are_those_of_the_columns() -> None:
    data = random_interactions()
    matrix = data.matrix().toarray()
    units = matrix / np.linalg.norm(matrix, axis=0)
    actual = dense(fit(data, ItemKnnConfig(similarity="cosine"), no_progress))
    np.testing.assert_allclose(actual, without_diagonal(units.T @ units), atol=1e-6)


def test_tfidf_weighs_users_by_their_rarity() -> None:
    data = random_interactions()
    matrix = data.matrix().toarray()
    weighted = matrix * np.log(matrix.shape[1] / (1 + matrix.sum(1)))[:, None]
    units = weighted / np.linalg.norm(weighted, axis=0)
    actual = dense(fit(data, ItemKnnConfig(similarity="tfidf"), no_progress))
    np.testing.assert_allclose(actual, without_diagonal(units.T @ units), atol=1e-6)


def test_bm25_damps_entities_of_many_users() -> None:
    data = random_interactions()
    matrix = data.matrix().toarray()
    sizes = matrix.sum(0)
    norm = 0.4 + 0.6 * sizes / sizes.mean()
    idf = np.log(matrix.shape[1] / (1 + matrix.sum(1)))[:, None]
    weighted = matrix * 3 / (2 * norm + matrix) * idf
    config = ItemKnnConfig(similarity="bm25", k1=2, b=0.6)
    expected = without_diagonal(weighted.T @ weighted)
    np.testing.assert_allclose(dense(fit(data, config, no_progress)), expected, atol=1e-5)


@pytest.mark.parametrize("config", ITEM_KNN.grid, ids=lambda config: config.similarity)
def test_a_row_holds_the_largest_of_its_own_entity(config: ItemKnnConfig) -> None:
    data = random_interactions(n_items=40)
    whole = dense(fit(data, config, no_progress))
    actual = dense(fit(data, config.model_copy(update={"k": 3}), no_progress))
    assert (np.count_nonzero(actual, axis=1) == 3).all()
    np.testing.assert_allclose(np.sort(actual)[:, -3:], np.sort(whole)[:, -3:], rtol=1e-6)
    assert not np.allclose(actual, actual.T)


@pytest.mark.parametrize("config", ITEM_KNN.grid, ids=lambda config: config.similarity)
def test_users_of_everything_and_entities_of_nobody_do_no_harm(config: ItemKnnConfig) -> None:
    weights = np.zeros((4, 6), np.float32)
    weights[:, :5] = np.eye(4, 5)
    weights[0, :5] = 1  # log(6 / (1 + 5)) is zero
    weights[3, 2] = -1
    actual = dense(fit(from_dense(weights), config, no_progress))
    assert np.isfinite(actual).all()
    assert not actual[5].any()
    assert not actual[:, 5].any()


def test_a_history_leads_to_the_entities_of_its_users() -> None:
    weights = np.kron(np.eye(2), np.ones((5, 3))).astype(np.float32)
    weights[0, 2] = 0
    model = fit(from_dense(weights), ItemKnnConfig(similarity="cosine"), no_progress)
    history = History(np.array([0], np.int32), np.ones(1, np.float32), np.zeros(1, np.float32))
    assert sorted(model.top(history, 5, history.items).items.tolist()) == [1, 2]
