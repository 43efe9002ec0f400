"""The parts that the linear models share: weights, vectors, cut rows, inverse, search."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from engine.models.base import Cancelled, ModelConfig, Progress, no_progress
from engine.models.forms.base import History
from engine.models.linear import rows, svd
from engine.models.linear.inverse import invert
from engine.models.linear.rows import top_rows
from engine.models.linear.search import Deadline, as_served, climb, winner
from engine.models.linear.svd import Decompositions, decompose
from engine.models.linear.uncut import Uncut
from engine.models.linear.weighting import powers, weigh
from tests.engine.models.linear_data import CancelAfter, dense_weighted, random_interactions


def _filled(matrix: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    def fill(block: slice, out: NDArray[np.float32]) -> None:
        out[:] = matrix[block]

    return top_rows(len(matrix), k, fill, no_progress).toarray()


def test_weights_are_the_powers_of_both_degrees() -> None:
    matrix = random_interactions().matrix()
    expected = dense_weighted(matrix.toarray().astype(float), 0.3, 0.45)
    np.testing.assert_allclose(weigh(matrix, 0.3, 0.45).toarray(), expected, rtol=1e-5)


def test_powers_of_nothing_are_nothing() -> None:
    assert powers(np.array([0.0, 4.0]), -0.5).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_top_rows_are_the_same_for_every_size_of_block(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    matrix = np.random.default_rng(0).standard_normal((20, 20)).astype(np.float32)
    expected = _filled(matrix, 4)
    monkeypatch.setattr(rows, "_BLOCK_ROWS", size)
    np.testing.assert_array_equal(_filled(matrix, 4), expected)
    assert (np.count_nonzero(expected, axis=1) == 4).all()


def test_top_rows_at_a_tie_are_the_first_columns() -> None:
    matrix = np.array([[9, 1, -1, 1, 2], [0] * 5, [3, 3, 3, 3, 3], [0] * 5, [1, 0, 0, 0, 7]])
    actual = _filled(matrix.astype(np.float32), 2)
    assert actual.tolist() == [
        [0, 1, 0, 0, 2],
        [0] * 5,
        [3, 3, 0, 0, 0],
        [0] * 5,
        [1, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("exact", [True, False])
def test_vectors_are_those_of_a_dense_decomposition(
    monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    monkeypatch.setattr(svd, "EXACT_SIDE", 1000 if exact else 0)
    matrix = random_interactions(n_users=200, n_items=120, share=0.1).matrix()
    found = decompose(matrix, 30, no_progress)
    _, values, transposed = np.linalg.svd(matrix.toarray())
    np.testing.assert_allclose(found.values, values[:30], rtol=1e-3)
    expected = transposed[:10].T @ transposed[:10]
    np.testing.assert_allclose(found.vectors[:, :10] @ found.vectors[:, :10].T, expected, atol=5e-3)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(30), atol=1e-5)
    assert not found.complete


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)], ids=["tall", "wide"])
@pytest.mark.parametrize("exact", [True, False])
def test_vectors_of_a_lower_rank_are_complete(
    monkeypatch: pytest.MonkeyPatch, exact: bool, shape: tuple[int, int]
) -> None:
    monkeypatch.setattr(svd, "EXACT_SIDE", 1000 if exact else 0)
    low = np.zeros(shape, np.float32)
    low[:4, 0] = low[:2, 1] = low[2:, 3] = 1
    found = decompose(sparse.csr_matrix(low), 8, no_progress)
    assert found.rank == 3
    assert found.complete
    assert found.cut(3) is found
    assert not found.cut(2).complete


def test_vectors_of_nothing_are_none() -> None:
    found = decompose(sparse.csr_matrix(np.zeros((4, 3), np.float32)), 2, no_progress)
    assert found.rank == 0


def test_a_larger_decomposition_serves_a_smaller_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svd, "EXACT_SIDE", 0)
    asked: list[int] = []
    original = svd.decompose

    def counted(matrix: sparse.csr_matrix, rank: int, progress: Progress) -> svd.Decomposition:
        asked.append(rank)
        return original(matrix, rank, progress)

    monkeypatch.setattr(svd, "decompose", counted)
    matrix = random_interactions(n_users=200, n_items=120, share=0.1).matrix()
    kept = Decompositions(room=2)
    ranks = [kept.get((0, 0), matrix, rank, 40, no_progress).rank for rank in (10, 5, 20, 40, 30)]
    assert ranks == [10, 5, 20, 40, 30]
    assert asked == [10, 40]
    for key in ((0, 1), (0, 2), (0, 0)):
        kept.get(key, matrix, 10, 40, no_progress)
    assert asked == [10, 40, 10, 10, 10]


@pytest.mark.parametrize("block", [1, 7, 16, 100])
def test_the_inverse_in_steps_is_the_inverse(block: int) -> None:
    root = np.random.default_rng(0).standard_normal((40, 60))
    matrix = root @ root.T + np.eye(40)
    actual = matrix.copy()
    invert(actual, no_progress, block)
    np.testing.assert_allclose(actual, np.linalg.inv(matrix), atol=1e-9)


def test_the_inverse_can_be_cancelled() -> None:
    with pytest.raises(Cancelled):
        invert(np.eye(40), CancelAfter(3), block=8)


class _Hill(ModelConfig):
    x: int = 0
    y: int = 0


_GRIDS = {"x": (-2, -1, 0, 1, 2, 3, 4), "y": (-2, -1, 0, 1)}


def _height(config: _Hill) -> float:
    return 100.0 - 5 * (config.x - 2) ** 2 - 5 * (config.y + 1) ** 2


def test_a_climb_walks_up_each_coordinate_in_turn() -> None:
    trials = climb(_Hill(), _GRIDS, _height, Deadline(60))
    walked = [(trial.config.x, trial.config.y) for trial in trials]
    assert walked == [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1), (2, -2), (2, -1)]
    assert winner(trials).config == _Hill(x=2, y=-1)


def test_a_climb_does_not_follow_noise() -> None:
    trials = climb(_Hill(), _GRIDS, lambda config: 100.0 + 0.4 * config.x, Deadline(60))
    assert winner(trials).config == _Hill()
    assert max(trial.score for trial in trials) > winner(trials).score


def test_a_climb_out_of_time_tries_the_start_alone() -> None:
    assert [trial.config for trial in climb(_Hill(), _GRIDS, _height, Deadline(0))] == [_Hill()]


def test_scores_as_served_keep_their_order() -> None:
    trials = climb(_Hill(), _GRIDS, _height, Deadline(60))
    served = as_served(trials, 50.0, 3.0)
    assert winner(served).config == winner(trials).config
    assert winner(served).score == 50.0
    assert winner(served).seconds >= 3
    order = [trial.score for trial in trials]
    assert np.argsort([trial.score for trial in served]).tolist() == np.argsort(order).tolist()


def test_an_uncut_model_answers_with_its_function() -> None:
    matrix = np.array([[0, 1, 2, -1], [3, 0, 0, 1], [0, 5, 0, 1], [0, 0, 0, 0]], np.float32)
    model = Uncut(np.arange(4), lambda seen: np.asarray(seen @ matrix))
    history = History(np.array([0], np.int32), np.ones(1, np.float32), np.zeros(1, np.float32))
    assert model.top(history, 5, np.array([1], np.int32)).items.tolist() == [2]
    assert model.arrays() == {}
    assert model.settings() == {}
    with pytest.raises(ValueError, match="never kept"):
        Uncut.from_arrays({}, {})
