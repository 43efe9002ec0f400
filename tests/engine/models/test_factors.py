import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from engine.models.forms import FactorModel
from engine.models.forms.factors import ridge
from tests.engine.models.planted import history, random_rows

N = 120


@pytest.fixture(scope="module")
def rows() -> sparse.csr_matrix:
    """Users with all kinds of weights: dislike, less than one, one, more."""
    rng = np.random.default_rng(3)
    rows = random_rows(40, N, 0.2, 1)
    rows.data = rng.choice([-2, -1, 0.01, 0.3, 1, 2, 5], rows.nnz).astype(np.float32)
    return rows


@pytest.fixture(scope="module", params=[8, 64], ids=["f < history", "f > history"])
def als(request, rows) -> AlternatingLeastSquares:
    liked = rows.maximum(0).tocsr()
    liked.eliminate_zeros()
    with threadpool_limits(1, "blas"):
        als = AlternatingLeastSquares(
            request.param, regularization=0.5, alpha=40, iterations=5, random_state=2
        )
        als.fit(liked, show_progress=False)
    return als


def confidence(als: AlternatingLeastSquares) -> FactorModel:
    return FactorModel(
        np.arange(N), als.item_factors, ridge(als.item_factors, 0.5), fold_in="confidence", alpha=40
    )


def test_confidence_fold_in_is_that_of_implicit(als, rows):
    expected = als.recalculate_user(np.arange(rows.shape[0]), rows)

    actual = confidence(als).users(rows)

    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_confidence_fold_in_solves_the_equation_of_the_paper(als, rows):
    y = als.item_factors.astype(np.float64)
    own, weights = rows[0].indices, rows[0].data.astype(np.float64) * 40
    left = y.T @ y + 0.5 * np.eye(y.shape[1])
    left += y[own].T @ ((np.abs(weights) - 1)[:, None] * y[own])
    expected = np.linalg.solve(left, y[own].T @ np.maximum(weights, 0))

    actual = confidence(als).user(own, rows[0].data)

    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_linear_fold_in_projects_the_weighted_sum(rows):
    rng = np.random.default_rng(5)
    factors = rng.normal(size=(N, 6)).astype(np.float32)
    model = FactorModel(np.arange(N), factors, ridge(factors, 2.0))
    expected = rows @ factors @ np.linalg.inv(factors.T @ factors + 2 * np.eye(6))

    actual = model.users(rows)

    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_live_history_ages_and_counts_once_where_binary():
    factors = np.eye(3, dtype=np.float32)
    model = FactorModel(np.arange(3), factors, binary=True, half_life_days=10)

    actual = model.live(history([0, 2], [7, -3], [10, 20]))

    assert actual is not None
    np.testing.assert_allclose(actual, np.array([0.5, 0, -0.25]))


def test_reasons_are_the_nearest_liked_entities_by_cosine():
    factors = np.array([[1, 0], [0, 9], [1, 0.1], [-1, 0], [0.9, 0.5]], np.float32)
    model = FactorModel(np.arange(5), factors, binary=True)

    answer = model.top(history([1, 3, 2, 0], [1, -1, 1, 1]), 5, np.empty(0, np.int32))

    # Nothing is its own reason, and what is opposite is none.
    assert dict(zip(answer.items.tolist(), answer.because, strict=True)) == {
        0: (2,),
        1: (2,),
        2: (3, 0),
        4: (2, 3, 0),
    }


def test_biases_are_added():
    factors = np.zeros((3, 2), np.float32)
    model = FactorModel(np.arange(3), factors, biases=np.array([1, 3, 2], np.float32))

    answer = model.top(history([0]), 3, np.array([0], np.int32))

    assert answer.items.tolist() == [1, 2]
    assert answer.scores.tolist() == [3, 2]
    assert answer.because == [(), ()]
