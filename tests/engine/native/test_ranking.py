"""Reasons and columns of a list, compiled and in NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import native
from engine.candidates import Candidates
from engine.causes import stacked
from engine.item_columns import columns_of
from engine.ranking import ranking, unit_rows
from engine.sources import Anchor, Inputs
from storage.vector_store import Candidate
from tests.engine.native.both import assert_equal, both, needs_kernels
from tests.engine.test_item_columns import listed

pytestmark = needs_kernels

COLUMNS = (
    "numbers", "scores", "reasons", "origins", "shares", "leads", "because", "told", "tellers",
    "details",
)  # fmt: skip
NAMES = ["content", "context", "item_to_item", "model", "popular"]

scores = st.sampled_from([0.0, -0.0, 0.5, 1.0]) | st.floats(-5, 5)
halves = st.lists(st.sampled_from([0.0, -0.0, 0.5, -1.0, 2.0]), min_size=3, max_size=3)
vectors = st.none() | halves.map(lambda row: np.array(row, np.float16))
anchors = st.builds(
    Anchor,
    st.integers(1, 9),
    st.just("book"),
    st.text("ab", min_size=1, max_size=2),
    st.just(1.0),
    st.none() | halves.map(lambda row: np.array(row, np.float32)),
    st.booleans(),
)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Up to forty, by number, of which each source may say several things."""
    numbers = sorted(draw(st.sets(st.integers(1, 60), max_size=40)))
    made = []
    for number in numbers:
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
        raws = [draw(scores) for _ in names]
        led = draw(st.lists(st.integers(1, 9), max_size=3))
        vector = draw(vectors)
        made.append(Candidate(number, "book", f"b{number}", names, raws, led, "{}", vector, ()))
    return made


@given(
    candidates(),
    st.lists(anchors, max_size=8),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 1.0, 0.3])),
    st.dictionaries(
        st.integers(1, 60), st.lists(st.tuples(st.just("book"), st.text("xy")), max_size=5)
    ),
    st.booleans(),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_ranking_is_the_same(offered, near, weights, because, explain, part):
    inputs = Inputs(
        "warm", None, None, tuple(near), because={n: tuple(led) for n, led in because.items()}
    )

    def made():
        ranked = ranking(Candidates.of(offered), inputs, weights, page_size=20, explain=explain)
        columns = ranked.columns()
        some = columns[slice(*part)]
        return (
            [getattr(columns, name) for name in COLUMNS],
            [getattr(some, name) for name in COLUMNS],
            columns.names,
            ranked.items(),
            columns.pack(),
            some.pack(),
        )

    ours, theirs = both(made)
    assert_equal(list(ours), list(theirs))


@given(listed, st.integers(0, 9), st.integers(0, 9))
def test_columns_are_packed_the_same(items, start, end):
    part = columns_of(items)

    def packed():
        some = part[start:end]
        return some.pack()

    assert_equal(*both(packed))


def test_every_half_is_widened_to_the_same():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    ours, theirs = both(lambda: stacked([halves]))
    np.testing.assert_array_equal(ours, theirs)
    assert np.array_equal(np.signbit(ours), np.signbit(theirs))


@given(st.lists(vectors, max_size=5), st.sampled_from(["f2", ">f2", "f4", "f8"]))
def test_unit_rows_are_the_same(rows, kind):
    given_rows = [None if row is None else row.astype(kind) for row in rows]
    assert_equal(*both(lambda: unit_rows(given_rows)))


def test_vectors_of_several_dimensions_are_refused():
    with pytest.raises(ValueError, match="length"):
        stacked([np.zeros(3, np.float16), np.zeros(4, np.float16)])


LED = np.zeros((1, 1, 3), np.int32)
NEAR = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    "work",
    [
        lambda: native.kernels.put_nearest(NEAR, [0], LED, [1], 0),
        lambda: native.kernels.put_nearest(NEAR, [0], LED, [-1], 0),
        lambda: native.kernels.put_nearest(NEAR, [0, 1], LED, [0], 0),
        lambda: native.kernels.put_nearest(NEAR, [0], LED, [0], 1),
        lambda: native.kernels.put_nearest(NEAR, [0], LED[:, :, :2].copy(), [0], 0),
        lambda: native.kernels.put(LED, 0, [(), ()], {}),
        lambda: native.kernels.put(LED, 1, [()], {}),
        lambda: native.kernels.put(LED, 0, [(1, 2, 3, 4)], {}),
        lambda: native.kernels.offered(*[np.array([5])] * 3, 5, [None]),
        lambda: native.kernels.offered(*[np.array([0, 1])] * 3, 0, [None]),
        lambda: native.kernels.reasons(np.ones((1, 1)), np.array([1]), *[np.array([0])] * 2, LED),
        lambda: native.kernels.reasons(
            np.zeros((1, 1)), np.array([0]), np.array([0]), np.array([1]), LED
        ),
        lambda: native.kernels.reasons(np.ones((1, 2)), *[np.array([0])] * 3, LED),
        lambda: native.kernels.spans(*[np.ones(2, np.uint8)] * 3, 0, 3),
        lambda: native.kernels.spans(*[np.full(2, 2, np.uint8)] * 3, 0, 2),
        lambda: native.kernels.packed(
            np.ones(1, np.int64), np.zeros(1, np.uint8), np.ones(1), np.array([1], np.uint16), 1
        ),
    ],
)
def test_what_does_not_fit_is_refused(work):
    with pytest.raises((IndexError, ValueError)):
        work()


def test_arrays_of_fewer_dimensions_are_refused():
    with pytest.raises(TypeError):
        native.kernels.spans(*[np.array(1, np.uint8)] * 3, 0, 0)
    with pytest.raises(TypeError):
        native.kernels.descending(np.array(1.0))
