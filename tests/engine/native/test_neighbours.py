"""A neighbour matrix, compiled and in NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from engine import native
from engine.models.forms import NeighbourMatrix
from engine.models.forms.base import History, Scored
from tests.engine.native.both import assert_equal, both, needs_kernels

pytestmark = needs_kernels

scores = st.sampled_from([0.5, 0.25, -0.5]) | st.floats(-10, 10, width=32)
weights = st.sampled_from([0.0, -0.0, 1.0, -1.0]) | st.floats(-5, 5, width=32)


def parts(scored: Scored) -> list[object]:
    return [scored.items, scored.scores, [tuple(led) for led in scored.because]]


@given(st.data())
def test_top_is_the_same(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    cells = data.draw(
        st.dictionaries(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), scores, max_size=60
        )
    )
    rows = sparse.csr_matrix(
        (list(cells.values()), ([r for r, _ in cells], [c for _, c in cells])),
        shape=(n, n),
        dtype=np.float32,
    )
    met = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n))
    history = History(
        np.array(met, np.int32),
        np.array(data.draw(st.lists(weights, min_size=len(met), max_size=len(met))), np.float32),
        np.zeros(len(met), np.float32),
    )
    exclude = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=3)), np.int32)
    k = data.draw(st.integers(1, n + 2))

    def work() -> list[object]:
        model = NeighbourMatrix.from_matrix(np.arange(1, n + 1), rows.copy())
        return parts(model.top(history, k, exclude))

    assert_equal(*both(work))


@pytest.mark.parametrize("length", [1, 60, 200])
def test_top_is_the_same_for_as_many_as_a_service_has(length: int) -> None:
    draw = np.random.default_rng(length)
    rows = sparse.random(2000, 2000, 0.05, "csr", np.float32, random_state=3)
    rows.data = np.round(rows.data * 8) / 8 - np.float32(0.25)  # many equal ones
    history = History(
        draw.permutation(2000)[:length].astype(np.int32),
        draw.choice([1.0, 0.5, 0.0, -1.0], length).astype(np.float32),
        np.zeros(length, np.float32),
    )

    def work() -> list[object]:
        model = NeighbourMatrix.from_matrix(np.arange(1, 2001), rows.copy())
        return parts(model.top(history, 160, history.items[:5]))

    assert_equal(*both(work))


@pytest.mark.parametrize(
    ("rows", "exclude", "columns"), [([2], [], [0, 1]), ([0], [-1], [0, 1]), ([0, 1], [], [0, 9])]
)
def test_what_is_not_there_is_an_error(
    rows: list[int], exclude: list[int], columns: list[int]
) -> None:
    with pytest.raises(IndexError):
        native.kernels.top(
            np.array([0, 1, 2]),
            np.array(columns, np.int32),
            np.ones(2, np.float32),
            np.array(rows, np.int32),
            np.ones(len(rows), np.float32),
            np.array(exclude, np.int32),
            5,
        )
