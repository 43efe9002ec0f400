import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from engine.models.forms import History, NeighbourMatrix
from engine.models.forms.history import leading
from tests.engine.models.planted import random_rows

NOBODY = np.empty(0, np.int32)


def matrix_of(n: int, density: float) -> NeighbourMatrix:
    rows = random_rows(n, n, density, 5)
    # Few values: many shares of an item are equal, and the newer place must come first.
    rows.data = np.round(rows.data * 4) / 4 - 0.25
    return NeighbourMatrix.from_matrix(np.arange(n, dtype=np.int64), rows)


def long_history(n: int, length: int) -> History:
    rng = np.random.default_rng(6)
    return History(
        rng.permutation(n)[:length].astype(np.int32),
        rng.choice([-1, 0, 0.5, 1, 2], length).astype(np.float32),
        np.arange(length, dtype=np.float32),
    )


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 300])
def test_long_history_is_scored_and_explained_as_a_whole(length):
    model, history = matrix_of(400, 0.3), long_history(400, length)
    shares = model.matrix()[history.items].toarray() * history.weights[:, None]

    answer = model.top(history, 50, NOBODY)

    expected = shares.sum(axis=0)
    order = np.lexsort((np.arange(400), -expected))[:50]
    order = order[expected[order] > 0]
    assert answer.items.tolist() == order.tolist()
    np.testing.assert_allclose(answer.scores, expected[order], rtol=1e-5)
    for item, places in zip(answer.items, answer.because, strict=True):
        by_share = np.argsort(-shares[:, item], kind="stable")[:3]
        assert places == tuple(place for place in by_share.tolist() if shares[place, item] > 0)


def test_history_without_rows_answers_nothing():
    empty = sparse.csr_matrix((400, 400), dtype=np.float32)
    model = NeighbourMatrix.from_matrix(np.arange(400, dtype=np.int64), empty)

    answer = model.top(long_history(400, 100), 50, NOBODY)

    assert (answer.items.tolist(), list(answer.because)) == ([], [])


def test_long_history_needs_less_memory_than_its_rows():
    """What a call takes stays with the process in part, so it must not grow with the history."""
    model, history = matrix_of(3000, 0.15), long_history(3000, 2000)
    entries = int(np.diff(model.indptr)[history.items[history.weights != 0]].sum())
    model.top(history, 100, NOBODY)

    tracemalloc.start()
    model.top(history, 100, NOBODY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < entries * (model.indices.itemsize + model.data.itemsize) / 2


def test_leading_leaves_the_shares_as_they_were():
    shares = np.array([[0.5, 0, 0.5, 2, 0.5], [-1, -2, 0, -1, -3]], np.float32)
    before = shares.copy()

    named = leading(shares, np.array([2, 3, 5, 7, 11]))

    assert named == [(7, 2, 5), ()]
    assert shares.tolist() == before.tolist()
