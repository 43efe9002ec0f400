"""Weighted EASE against its closed form."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.models.base import Cancelled, Interactions, no_progress
from engine.models.ease import EASE, EaseConfig, fit, refuse, tune
from engine.models.forms.base import ServingModel
from tests.engine.models.linear_data import (
    CancelAfter,
    dense,
    dense_weighted,
    from_dense,
    random_interactions,
    without_diagonal,
)

PLAIN = EaseConfig(a=0, b=0, p=0, q=0, drop=0, rel=0.7)


def _reference(matrix: NDArray[np.float64], config: EaseConfig) -> NDArray[np.float64]:
    weighted = dense_weighted(matrix, config.a, config.b)
    gram = weighted.T @ weighted
    diagonal = np.diag(gram)
    inverse = np.linalg.inv(gram + np.diag(config.rel * diagonal.mean() + config.drop * diagonal))
    degrees = matrix.sum(0)
    learned = without_diagonal(-inverse / np.diag(inverse))
    return degrees[:, None] ** -config.p * learned * degrees**config.q


@pytest.mark.parametrize(
    "config",
    [PLAIN, EaseConfig(), EaseConfig(a=0.4, b=0.1, p=0.3, q=-0.2, rel=4, drop=0.6)],
    ids=["plain", "default", "other"],
)
def test_rows_are_the_closed_form(config: EaseConfig) -> None:
    data = random_interactions()
    expected = _reference(data.matrix().toarray().astype(float), config)
    np.testing.assert_allclose(dense(fit(data, config, no_progress)), expected, atol=1e-5)


def test_plain_columns_solve_each_ridge_regression_without_oneself() -> None:
    data = random_interactions()
    matrix = data.matrix().toarray().astype(float)
    actual = dense(fit(data, PLAIN, no_progress))
    others = np.arange(matrix.shape[1]) != 3
    gram = matrix[:, others].T @ matrix[:, others]
    ridge = PLAIN.rel * np.diag(matrix.T @ matrix).mean() * np.eye(len(gram))
    expected = np.linalg.solve(gram + ridge, matrix[:, others].T @ matrix[:, 3])
    np.testing.assert_allclose(actual[others, 3], expected, atol=1e-5)


def test_a_cut_keeps_the_largest_of_each_row_by_absolute_value() -> None:
    data = random_interactions()
    whole = dense(fit(data, EaseConfig(), no_progress))
    actual = dense(fit(data, EaseConfig(k=4), no_progress))
    assert (np.count_nonzero(actual, axis=1) == 4).all()
    kept = np.sort(np.abs(whole), axis=1)[:, -4:]
    np.testing.assert_array_equal(np.sort(np.abs(actual), axis=1)[:, -4:], kept)


def test_entities_without_interactions_are_no_ones_neighbours() -> None:
    weights = random_interactions().matrix().toarray()
    weights[:, 7] = 0
    actual = dense(fit(from_dense(weights), EaseConfig(), no_progress))
    assert np.isfinite(actual).all()
    assert not actual[7].any()
    assert not actual[:, 7].any()


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_fit_ends_when_it_is_cancelled(calls: int) -> None:
    with pytest.raises(Cancelled):
        fit(random_interactions(), EaseConfig(), CancelAfter(calls))


def test_tuning_serves_its_best() -> None:
    data = random_interactions()
    judged: list[ServingModel] = []

    def judge(model: ServingModel) -> float:
        judged.append(model)
        return 1.0 / (1.0 + float(np.abs(model.score_all(data.matrix())).mean()))

    trials = tune(data, judge, 60, no_progress)
    best = trials[-1]
    assert trials[0].config == EaseConfig()
    assert len(trials) > 10
    assert judged[-1].form == "neighbours"
    assert best.score == pytest.approx(judge(fit(data, best.config, no_progress)), rel=1e-4)


def test_uncut_scores_are_those_of_the_whole_rows() -> None:
    data = random_interactions()
    judged: list[NDArray[np.float32]] = []

    def judge(model: ServingModel) -> float:
        judged.append(model.score_all(data.matrix()))
        return 1.0

    tune(data, judge, 0, no_progress)
    uncut, cut = judged
    np.testing.assert_allclose(uncut, cut, atol=1e-5)


def test_a_large_catalogue_is_refused_naming_the_memory() -> None:
    small = random_interactions()
    n = 20_001
    large = Interactions(
        small.users, small.items, small.weights, small.times, np.arange(n), small.user_keys
    )
    assert refuse(small, EaseConfig()) is None
    assert EASE.refuse(large, EaseConfig()) == (
        "ease would need about 2 GB of memory for the inverse over 20001 entities; "
        "it takes up to 20000"
    )
