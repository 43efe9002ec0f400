"""Blending and ordering, compiled and in NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import native
from engine.blend import blend
from tests.engine.native.both import assert_equal, both, needs_kernels

pytestmark = needs_kernels

scores = st.sampled_from([0.0, -0.0, 1.0, 0.1, 0.3]) | st.floats(-1e9, 1e9)
sources = st.integers(1, 12)


@st.composite
def offers(draw: st.DrawFn):
    """What some sources say of ten items, in any order and also twice, with their weights."""
    many = draw(sources)
    said = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, many - 1), scores)))
    weights = st.sampled_from([0.0, -0.0, 1.0, 5e-324]) | st.floats(0, 1e3)
    return said, draw(st.lists(weights, min_size=many, max_size=many))


@given(offers())
@example(([], [1.0]))
@example(([(3, 0, 0.5)], [0.0]))
def test_blend_is_the_same(given_offers):
    said, weights = given_offers
    items, by, raws = zip(*said, strict=True) if said else ((), (), ())
    ours, theirs = both(
        lambda: blend(
            np.array(items, np.intp),
            np.array(by, np.intp),
            np.array(raws, np.float64),
            np.array(weights, np.float64),
            n_items=10,
        )
    )
    assert_equal([ours.totals, ours.shares], [theirs.totals, theirs.shares])


@pytest.mark.parametrize(("item", "source"), [(10, 0), (-1, 0), (0, 1), (0, -1)])
def test_blend_of_a_place_that_is_not_there_is_refused(item, source):
    with pytest.raises(IndexError):
        blend(np.array([item]), np.array([source]), np.ones(1), np.ones(1), n_items=10)


def test_blend_of_another_type_or_length_is_refused():
    one = np.zeros(1, np.intp)
    with pytest.raises(TypeError):
        blend(one.astype(np.int32), one, np.ones(1), np.ones(1), n_items=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length"):
        blend(one, one, np.ones(2), np.ones(1), n_items=1)
    with pytest.raises(ValueError, match="contiguous"):
        blend(one, one, np.ones(2)[::2], np.ones(2)[::-1], n_items=1)


@given(st.lists(scores, max_size=400) | st.lists(st.sampled_from([0.0, -0.0, 1.0]), max_size=400))
def test_order_is_the_same(given_scores):
    wanted = np.array(given_scores, np.float64)
    assert_equal(native.kernels.descending(wanted), np.argsort(-wanted, kind="stable"))


@pytest.mark.parametrize("count", [15, 16, 17, 400, 5000])
def test_order_is_the_same_for_rows_that_are_in_some_order_already(count):
    rising = np.arange(count, dtype=np.float64)
    for wanted in (
        rising,
        -rising,
        rising % 7,
        np.abs(rising - count // 2),
        np.full(count, np.nan),
    ):
        order = native.kernels.descending(wanted)
        assert sorted(order.tolist()) == list(range(count))
        if not np.isnan(wanted).any():
            assert_equal(order, np.argsort(-wanted, kind="stable"))
