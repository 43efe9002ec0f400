"""Maximal marginal relevance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.diversity import mmr


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


@st.composite
def candidates(draw):
    n = draw(st.integers(0, 20))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.integers(0, 5, n).astype(np.float32) / 4
    return scores, unit(random.integers(-1, 2, (n, 3)))


def reference(scores, vectors, k, trade_off):
    picked = []
    left = list(range(len(scores)))
    while left and len(picked) < k:

        def gain(row):
            if not picked:
                return scores[row]
            like = max(float(vectors[row] @ vectors[other]) for other in picked)
            return (1 - trade_off) * float(scores[row]) - trade_off * like

        best = max(left, key=lambda row: (round(gain(row), 5), -row))
        picked.append(best)
        left.remove(best)
    return picked


@given(candidates(), st.integers(0, 25))
def test_mmr_without_trade_off_keeps_the_order_of_scores(rows, k):
    scores, vectors = rows
    expected = sorted(range(len(scores)), key=lambda row: -scores[row])[:k]
    assert mmr(scores, vectors, k, 0.0) == expected


@given(candidates(), st.integers(0, 25), st.floats(0, 1))
def test_mmr_picks_rows_once_and_the_best_first(rows, k, trade_off):
    scores, vectors = rows
    picked = mmr(scores, vectors, k, trade_off)
    assert len(picked) == min(k, len(scores))
    assert len(set(picked)) == len(picked)
    assert set(picked) <= set(range(len(scores)))
    if picked:
        assert picked[0] == int(np.argmax(scores))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_mmr_equals_the_definition(seed, trade_off):
    random = np.random.default_rng(seed)
    scores = random.random(8).astype(np.float32)
    vectors = unit(random.normal(size=(8, 4)))
    assert mmr(scores, vectors, 8, trade_off) == reference(scores, vectors, 8, trade_off)


def test_mmr_prefers_what_is_unlike_the_picked():
    vectors = unit([[1, 0], [1, 0], [0, 1], [0, 0]])
    scores = np.array([1.0, 0.9, 0.8, 0.7], dtype=np.float32)
    assert mmr(scores, vectors, 4, 0.5) == [0, 2, 3, 1]


def test_mmr_of_an_impossible_trade_off_is_refused():
    with pytest.raises(ValueError, match="trade_off"):
        mmr(np.ones(1, dtype=np.float32), np.ones((1, 1), dtype=np.float32), 1, 1.5)
