"""Forward decay: the same as decaying backward, in any order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decay import MAX_EXPONENT, empty, half_life_to_rate, next_landmark

RATE = half_life_to_rate(86_400.0)
START = 1_700_000_000.0
YEARS = 3 * 365 * 86_400.0

events = st.lists(
    st.tuples(
        st.floats(0, YEARS),
        st.floats(0.1, 10),
        st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    ),
    min_size=1,
    max_size=12,
)


def add(state, batch):
    times, weights, vectors = zip(*batch, strict=True)
    return state.add(np.array(vectors), np.array(weights), START + np.array(times), RATE)


def backward(batch, now):
    return sum(w * math.exp(-RATE * (now - START - t)) * np.array(v) for t, w, v in batch)


@given(events)
def test_accumulator_equals_backward_decay(batch):
    now = START + max(t for t, _, _ in batch)
    state = add(empty(3, START), batch)
    np.testing.assert_allclose(state.value_at(now, RATE), backward(batch, now), atol=1e-6)


@given(events, st.randoms(use_true_random=False))
def test_accumulator_does_not_depend_on_order_and_batches(batch, random):
    now = START + max(t for t, _, _ in batch)
    together = add(empty(3, START), batch)
    shuffled = list(batch)
    random.shuffle(shuffled)
    one_by_one = empty(3, START)
    for event in shuffled:
        one_by_one = add(one_by_one, [event])
    np.testing.assert_allclose(
        one_by_one.value_at(now, RATE), together.value_at(now, RATE), atol=1e-6
    )


@given(events)
def test_accumulator_fits_float32(batch):
    state = add(empty(3, START), [(t, 1e6 * w, np.array(v) * 6e3) for t, w, v in batch])
    assert np.all(np.abs(state.vector) < np.finfo(np.float32).max / 1e9)


def test_accumulator_without_events_is_unchanged():
    state = empty(3, START)
    assert state.add(np.empty((0, 3)), np.empty(0), np.empty(0), RATE) is state


def test_landmark_moves_only_past_the_largest_exponent():
    edge = MAX_EXPONENT / 0.5
    assert next_landmark(0.0, edge, 0.5) == 0.0
    assert next_landmark(0.0, edge + 1, 0.5) == edge + 1
    assert next_landmark(100.0, 3.0, 0.5) == 100.0


def test_rate_halves_in_a_half_life():
    assert math.exp(-half_life_to_rate(30.0) * 30.0) == pytest.approx(0.5)


@pytest.mark.parametrize("half_life", [0.0, -1.0, math.nan, math.inf])
def test_rate_of_an_impossible_half_life_is_refused(half_life):
    with pytest.raises(ValueError, match="half-life"):
        half_life_to_rate(half_life)
