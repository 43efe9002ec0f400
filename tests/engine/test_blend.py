"""Blending of sources."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blend import SCORE_FLOOR, blend

rows = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.floats(-1e6, 1e6)), max_size=60)
weights = st.lists(st.just(0.0) | st.floats(1e-3, 10), min_size=4, max_size=4)
methods = st.sampled_from(["scores", "rrf"])


def run(entries, source_weights, n_items=10, method="scores"):
    items, sources, scores = zip(*entries, strict=True) if entries else ((), (), ())
    return blend(
        np.array(items, dtype=np.intp),
        np.array(sources, dtype=np.intp),
        np.array(scores, dtype=np.float64),
        np.array(source_weights, dtype=np.float64),
        n_items=n_items,
        method=method,
    )


@given(rows, weights, methods)
def test_blend_totals_and_shares_are_in_range(entries, source_weights, method):
    result = run(entries, source_weights, method=method)
    assert result.totals.shape == (10,)
    assert result.shares.shape == (10, 4)
    assert np.all((result.totals >= 0) & (result.totals <= 1))
    offered = {item for item, source, _ in entries if source_weights[source] > 0}
    assert set(np.flatnonzero(result.totals)) == offered
    np.testing.assert_allclose(result.shares.sum(axis=1), result.totals > 0, atol=1e-12)


@given(rows, weights, methods)
def test_blend_shares_only_sources_that_offer_the_item(entries, source_weights, method):
    result = run(entries, source_weights, method=method)
    pairs = {(item, source) for item, source, _ in entries if source_weights[source] > 0}
    assert set(zip(*map(list, np.nonzero(result.shares)), strict=True)) == pairs


def test_blend_by_scores_brings_each_source_to_its_own_range():
    result = run([(0, 0, 100), (1, 0, 50), (2, 0, 0), (0, 1, 0.2), (2, 1, 0.4)], [3, 1], 3)
    middle = (1 + SCORE_FLOOR) / 2
    np.testing.assert_allclose(
        result.totals, [(3 + SCORE_FLOOR) / 4, 3 * middle / 4, (3 * SCORE_FLOOR + 1) / 4]
    )
    np.testing.assert_allclose(result.shares[1], [1, 0])


def test_blend_by_ranks_looks_at_ranks_alone():
    result = run([(0, 0, 1e9), (1, 0, 2), (1, 1, 5)], [1, 1], 2, method="rrf")
    np.testing.assert_allclose(result.totals, [0.5, (61 / 62 + 1) / 2])


def test_blend_of_an_item_offered_twice_counts_the_better():
    result = run([(0, 0, 1), (0, 0, 3), (1, 0, 2)], [1], 2)
    np.testing.assert_allclose(result.totals, [1, (1 + SCORE_FLOOR) / 2])


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_blend_with_an_impossible_weight_is_refused(weight):
    with pytest.raises(ValueError, match="weights"):
        run([(0, 0, 1)], [weight], 1)
