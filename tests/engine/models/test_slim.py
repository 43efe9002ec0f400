"""The local ridge against a solution by numpy, column by column."""

import subprocess
import sys

import numpy as np
import pytest

from engine.models import slim, spectral
from engine.models.base import Cancelled, Interactions, no_progress
from engine.models.forms.base import ServingModel
from engine.models.linear.ridge import local_ridge
from engine.models.slim import SLIM, SlimConfig, fit, tune
from tests.engine.models.linear_data import (
    CancelAfter,
    dense,
    dense_weighted,
    from_dense,
    random_interactions,
)


@pytest.mark.parametrize(
    "config",
    [
        SlimConfig(nearest=8),
        SlimConfig(nearest=500, a=0.1, b=0.4, rel=0.5, drop=1.0, p=0.2, q=-0.1),
    ],
    ids=["some", "all"],
)
def test_columns_solve_their_ridge_regressions(config: SlimConfig) -> None:
    data = random_interactions()
    matrix = data.matrix().toarray().astype(float)
    weighted = dense_weighted(matrix, config.a, config.b)
    gram = weighted.T @ weighted
    ridge = config.rel * np.diag(gram).mean() + config.drop * np.diag(gram)
    near = dense(spectral.fit(data, spectral.SpectralConfig(k=config.nearest), no_progress))
    expected = np.zeros_like(gram)
    for target in range(len(gram)):
        s = np.flatnonzero(near[target])
        system = gram[np.ix_(s, s)] + np.diag(ridge[s])
        expected[s, target] = np.linalg.solve(system, gram[s, target])
    degrees = matrix.sum(0)
    expected = degrees[:, None] ** -config.p * expected * degrees**config.q
    np.testing.assert_allclose(dense(fit(data, config, no_progress)), expected, atol=1e-5)


def test_compiled_loops_give_the_numbers_of_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_interactions()
    compiled = dense(fit(data, SlimConfig(nearest=6), no_progress))
    monkeypatch.setattr(slim, "_compiled", lambda: local_ridge)
    np.testing.assert_allclose(
        dense(fit(data, SlimConfig(nearest=6), no_progress)), compiled, atol=1e-6
    )


def test_more_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_interactions()
    expected = dense(fit(data, SlimConfig(), no_progress))
    monkeypatch.setattr(slim, "_CHUNK", 2)
    np.testing.assert_array_equal(dense(fit(data, SlimConfig(), no_progress)), expected)


def test_entities_without_interactions_are_no_ones_neighbours() -> None:
    weights = random_interactions().matrix().toarray()
    weights[:, 7] = 0
    actual = dense(fit(from_dense(weights), SlimConfig(), no_progress))
    assert np.isfinite(actual).all()
    assert not actual[7].any()
    assert not actual[:, 7].any()


@pytest.mark.parametrize("calls", [1, 4, 7])
def test_a_fit_ends_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    monkeypatch.setattr(slim, "_CHUNK", 2)
    with pytest.raises(Cancelled):
        fit(random_interactions(), SlimConfig(), CancelAfter(calls))


def test_tuning_serves_its_best_last() -> None:
    data = random_interactions()
    judged: list[ServingModel] = []

    def judge(model: ServingModel) -> float:
        judged.append(model)
        return 1.0 / (1.0 + float(np.abs(model.score_all(data.matrix())).mean()))

    trials = tune(data, judge, 60, no_progress)
    best = trials[-1]
    assert SlimConfig() in {trial.config for trial in trials}
    assert len(judged) == len(trials) + 1
    assert best.score == pytest.approx(judge(judged[-1]))
    assert best.score == pytest.approx(judge(fit(data, best.config, no_progress)), rel=1e-5)


def test_many_shared_entities_are_refused_naming_the_memory() -> None:
    small = random_interactions()
    assert SLIM.refuse(small, SlimConfig()) is None
    n = 300_000
    heavy = Interactions(
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int32),
        np.ones(n, np.float32),
        np.zeros(n, np.int64),
        np.arange(n),
        np.arange(1),
    )
    refused = SLIM.refuse(heavy, SlimConfig())
    assert refused is not None
    assert "670 GB" in refused


def test_importing_it_does_not_import_numba() -> None:
    code = "import sys, engine.models.slim; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
