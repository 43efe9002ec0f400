"""The power spectral filter against the dense function of the gram's eigenvalues."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.models import spectral
from engine.models.base import Cancelled, Interactions, no_progress
from engine.models.forms.base import History, ServingModel
from engine.models.linear import svd
from engine.models.spectral import SPECTRAL, SpectralConfig, fit, refuse, tune
from tests.engine.models.linear_data import (
    CancelAfter,
    dense,
    dense_weighted,
    from_dense,
    random_interactions,
    without_diagonal,
)


def _reference(matrix: NDArray[np.float64], config: SpectralConfig) -> NDArray[np.float64]:
    """W by a dense eigendecomposition, every eigenvalue through the filter."""
    weighted = dense_weighted(matrix, config.a, config.b)
    eigenvalues, vectors = np.linalg.eigh(weighted.T @ weighted)
    x = np.maximum(eigenvalues[::-1] / eigenvalues[-1], 0)
    vectors = vectors[:, ::-1]
    assert config.rank is not None
    edge = x[min(config.rank, len(x)) - 1]
    f = np.where(x >= edge, x**config.t, config.tau * edge**config.t / edge * x)
    kernel = vectors @ np.diag(f) @ vectors.T
    degrees = matrix.sum(0)
    return without_diagonal(degrees[:, None] ** -config.p * kernel * degrees**config.q)


@pytest.mark.parametrize("rank", [1, 5, 24, 25], ids=["one", "few", "all_but_one", "all"])
def test_rows_are_the_dense_spectral_function(rank: int) -> None:
    data = random_interactions()
    config = SpectralConfig(rank=rank, a=0.2, b=0.4, p=0.1, q=0.3, t=0.3, tau=0.5)
    actual = dense(fit(data, config, no_progress))
    expected = _reference(data.matrix().toarray().astype(float), config)
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_rows_of_a_catalogue_larger_than_its_users_are_the_same_function() -> None:
    data = random_interactions(n_users=20, n_items=40)
    config = SpectralConfig(rank=12)
    expected = _reference(data.matrix().toarray().astype(float), config)
    np.testing.assert_allclose(dense(fit(data, config, no_progress)), expected, atol=2e-5)


def test_rows_by_randomised_vectors_are_the_same_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(svd, "EXACT_SIDE", 0)
    data = random_interactions(n_users=150, n_items=100)
    config = SpectralConfig(rank=40)
    expected = _reference(data.matrix().toarray().astype(float), config)
    np.testing.assert_allclose(dense(fit(data, config, no_progress)), expected, atol=2e-4)


def test_a_cut_keeps_the_largest_by_absolute_value_with_signs() -> None:
    data = random_interactions()
    whole = dense(fit(data, SpectralConfig(rank=5), no_progress))
    actual = dense(fit(data, SpectralConfig(rank=5, k=6), no_progress))
    expected = np.zeros_like(whole)
    for row, kept in enumerate(np.argsort(-np.abs(whole), axis=1)[:, :6]):
        expected[row, kept] = whole[row, kept]
    np.testing.assert_array_equal(actual, expected)
    assert (actual < 0).any()


def test_a_full_rank_has_no_tail() -> None:
    data = random_interactions()
    rows = [dense(fit(data, SpectralConfig(rank=99, tau=tau), no_progress)) for tau in (0.0, 1.0)]
    np.testing.assert_array_equal(*rows)


def test_p_damps_the_history_and_q_lifts_what_is_scored() -> None:
    data = random_interactions()
    degrees = data.matrix().toarray().sum(0)
    plain = dense(fit(data, SpectralConfig(rank=5, p=0, q=0), no_progress))
    np.testing.assert_allclose(plain, plain.T, atol=1e-6)
    weighed = dense(fit(data, SpectralConfig(rank=5, p=0.5, q=0.25), no_progress))
    np.testing.assert_allclose(weighed, degrees[:, None] ** -0.5 * plain * degrees**0.25, atol=1e-5)


def test_entities_without_interactions_are_no_ones_neighbours() -> None:
    weights = random_interactions().matrix().toarray()
    weights[:, [0, 7]] = 0
    weights[3] = 0
    actual = dense(fit(from_dense(weights), SpectralConfig(rank=5), no_progress))
    assert np.isfinite(actual).all()
    assert not actual[[0, 7]].any()
    assert not actual[:, [0, 7]].any()
    assert actual[1].any()


def test_a_group_of_friends_is_recommended_to_its_newcomer() -> None:
    weights = np.kron(np.eye(2), np.ones((6, 5))).astype(np.float32)
    weights[0, 4] = 0
    model = fit(from_dense(weights), SpectralConfig(), no_progress)
    history = History(np.array([0], np.int32), np.ones(1, np.float32), np.zeros(1, np.float32))
    found = model.top(history, 10, history.items)
    assert sorted(found.items.tolist()) == [1, 2, 3, 4]


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_fit_ends_when_it_is_cancelled(calls: int) -> None:
    with pytest.raises(Cancelled):
        fit(random_interactions(), SpectralConfig(rank=5), CancelAfter(calls))


def test_a_tuning_ends_when_it_is_cancelled() -> None:
    with pytest.raises(Cancelled):
        tune(random_interactions(), lambda _model: 0.0, 60, CancelAfter(5))


def test_tuning_begins_with_the_start_and_serves_its_best() -> None:
    data = random_interactions(n_users=200, n_items=60)
    judged: list[ServingModel] = []

    def judge(model: ServingModel) -> float:
        judged.append(model)
        return 1.0 / (1.0 + float(np.abs(model.score_all(data.matrix())).mean()))

    trials = tune(data, judge, 60, no_progress)
    best = trials[-1]
    assert SpectralConfig(rank=128) in {trial.config for trial in trials}
    assert len(judged) == len(trials) + 1
    assert judged[-1].form == "neighbours"
    assert best.score == pytest.approx(judge(judged[-1]))
    assert best.score == pytest.approx(judge(fit(data, best.config, no_progress)), rel=1e-3)
    assert len({trial.config for trial in trials}) == len(trials)
    changed = [
        sum(a != b for a, b in zip(dict(one).values(), dict(other).values(), strict=True))
        for one, other in pairwise(trial.config for trial in trials[:-1])
    ]
    assert max(changed) <= 2


def test_uncut_scores_are_those_of_the_whole_rows() -> None:
    data = random_interactions()
    judged: list[NDArray[np.float32]] = []

    def judge(model: ServingModel) -> float:
        judged.append(model.score_all(data.matrix()))
        return 1.0

    tune(data, judge, 0, no_progress)
    uncut, cut = judged
    unseen = data.matrix().toarray() == 0
    np.testing.assert_allclose(uncut[unseen], cut[unseen], atol=1e-5)


def test_tuning_without_time_tries_the_start_alone() -> None:
    trials = tune(random_interactions(), lambda _model: 0.5, 0, no_progress)
    assert [trial.score for trial in trials] == [0.5]


def test_the_default_rank_follows_the_catalogue() -> None:
    assert spectral.rank_of(SpectralConfig(), 4000) == 128
    assert spectral.rank_of(SpectralConfig(), 4001) == 768
    assert spectral.rank_of(SpectralConfig(rank=7), 4001) == 7


def test_a_fit_that_would_not_fit_into_memory_is_refused() -> None:
    small = random_interactions()
    assert refuse(small, SpectralConfig()) is None
    n = 3_000_000
    large = Interactions(
        small.users, small.items, small.weights, small.times, np.arange(n), small.user_keys
    )
    refused = refuse(large, SpectralConfig())
    assert refused is not None
    assert "memory" in refused


def test_the_algorithm_has_a_tuner() -> None:
    assert SPECTRAL.name == "spectral"
    assert SPECTRAL.tune is tune
