"""Item to item, compiled and in NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import native
from engine.related import relate
from engine.sources import Anchor
from storage.situations import Neighbours
from tests.engine.native.both import assert_equal, both, needs_kernels

pytestmark = needs_kernels

numbers = st.integers(1, 12) | st.sampled_from([2**31, 2**40, 2**63 - 1])
scores = st.sampled_from([0.0, -0.0, 0.5, 0.25]) | st.floats(-10, 10, width=32)
weights = st.sampled_from([0.0, -0.0, 1.0, -1.0]) | st.floats(-5, 5)
rows = st.lists(st.tuples(numbers, scores), max_size=30)


def compare(anchors, known, limit):
    ours, theirs = both(lambda: relate(anchors, known, limit))
    assert_equal(
        [ours.ranked.numbers, ours.ranked.scores], [theirs.ranked.numbers, theirs.ranked.scores]
    )
    wanted = ours.ranked.numbers
    for some in (wanted, wanted[::2].tolist(), wanted[:1], []):
        led, _ = both(lambda some=some: ours.because(some))
        assert led == theirs.because(some)


@given(
    st.lists(st.tuples(numbers, weights), max_size=8),
    st.dictionaries(numbers, rows, max_size=8),
    st.integers(1, 40),
)
def test_relate_is_the_same(met, known, limit):
    compare(
        [Anchor(number, "book", str(number), weight, None) for number, weight in met],
        {
            number: Neighbours(
                np.array([n for n, _ in row], np.int64), np.array([s for _, s in row], np.float32)
            )
            for number, row in known.items()
        },
        limit,
    )


def test_relate_is_the_same_for_as_many_as_a_service_has():
    draw = np.random.default_rng(5)
    for limit in (1, 440, 100_000):
        known = {
            number: Neighbours(
                draw.integers(1, 2000, 50), np.round(draw.random(50), 1).astype(np.float32)
            )
            for number in range(1, 65)
        }
        weights = draw.choice([0.5, 1.0, -1.0], 64).tolist()
        anchors = [Anchor(n, "book", str(n), w, None) for n, w in zip(known, weights, strict=True)]
        compare(anchors, known, limit)


def test_an_entity_that_no_anchor_led_to_is_left_out():
    sums = native.kernels.Sums([np.array([7])], [np.ones(1, np.float32)], [1.0], [3])
    assert sums.because(np.array([8, 7, 7])) == {7: [3]}
