"""Co-visitation against a count of pairs, one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.models import covisitation
from engine.models.base import Cancelled, Interactions, no_progress
from engine.models.covisitation import COVISITATION, CovisitationConfig, fit
from engine.models.forms.base import History
from tests.engine.models.linear_data import CancelAfter, dense, random_interactions

PLAIN = CovisitationConfig(window_minutes=2, steps=200, fading=0, backward=1, popularity=0)


def _visits(seed: int = 0, n: int = 300) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(0, 12, n).astype(np.int32),
        rng.integers(0, 15, n).astype(np.int32),
        rng.choice([1, 2, -1], n).astype(np.float32),
        rng.permutation(n * 10)[:n].astype(np.int64) + 1_700_000_000,
        np.arange(15, dtype=np.int64),
        np.arange(12, dtype=np.int64),
    )


def _reference(data: Interactions, config: CovisitationConfig) -> NDArray[np.float64]:
    counts = np.zeros((data.n_items, data.n_items))
    popular = np.zeros(data.n_items)
    newest = data.times[data.weights > 0].max()
    for user in range(data.n_users):
        own = np.flatnonzero((data.users == user) & (data.weights > 0))
        own = own[np.argsort(data.times[own])]
        for at, first in enumerate(own):
            popular[data.items[first]] += 1
            for step, second in enumerate(own[at + 1 : at + 1 + config.steps], 1):
                if data.times[second] - data.times[first] > config.window_minutes * 60:
                    continue
                worth = 1.0 if config.binary else float(data.weights[second])
                if config.half_life_days is not None:
                    worth *= 2 ** (-(newest - data.times[second]) / 86400 / config.half_life_days)
                worth *= step**-config.fading
                one, other = data.items[first], data.items[second]
                if one != other:
                    counts[one, other] += worth
                    counts[other, one] += worth * config.backward
    popular = np.maximum(popular, 1)
    return counts / popular[:, None] / popular**config.popularity


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        CovisitationConfig(),
        CovisitationConfig(
            window_minutes=5, steps=3, backward=0, fading=1, popularity=0.6,
            half_life_days=0.01, binary=False,
        ),
    ],
    ids=["plain", "default", "other"],
)  # fmt: skip
@pytest.mark.parametrize("block", [10, 4_000_000])
def test_rows_are_the_weighted_counts(
    monkeypatch: pytest.MonkeyPatch, config: CovisitationConfig, block: int
) -> None:
    monkeypatch.setattr(covisitation, "_BLOCK_PAIRS", block)
    data = _visits()
    actual = dense(fit(data, config, no_progress))
    np.testing.assert_allclose(actual, _reference(data, config), rtol=1e-4, atol=1e-6)


def test_a_row_says_what_came_after_its_entity() -> None:
    data = Interactions(
        np.zeros(2, np.int32),
        np.array([1, 0], np.int32),
        np.ones(2, np.float32),
        np.array([0, 60], np.int64),
        np.arange(3, dtype=np.int64),
        np.arange(1, dtype=np.int64),
    )
    actual = dense(fit(data, CovisitationConfig(backward=0), no_progress))
    assert np.argwhere(actual).tolist() == [[1, 0]]


def test_the_order_of_the_interactions_does_not_matter() -> None:
    data = _visits()
    data.times[:] //= 600  # many at the same second
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    np.testing.assert_allclose(
        dense(fit(data, CovisitationConfig(), no_progress)),
        dense(fit(shuffled, CovisitationConfig(), no_progress)),
        rtol=1e-5,
    )


def test_a_crowded_count_is_thinned_to_its_strongest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covisitation, "_MOST_ENTRIES", 30)
    monkeypatch.setattr(covisitation, "_BLOCK_PAIRS", 1000)
    actual = dense(fit(_visits(), CovisitationConfig(k=2), no_progress))
    assert (np.count_nonzero(actual, axis=1) <= 2).all()
    assert np.count_nonzero(actual) > 10


def test_only_the_newest_of_a_history_count() -> None:
    model = fit(_visits(), CovisitationConfig(last=1), no_progress)
    items = np.array([3, 4, 5], np.int32)
    ones = np.ones(3, np.float32)
    long, short = (
        model.top(History(items[:n], ones[:n], ones[:n]), 5, np.empty(0, np.int32)) for n in (3, 1)
    )
    assert set(long.items.tolist()) <= set(short.items.tolist())


def test_visits_that_nobody_liked_leave_nothing() -> None:
    data = _visits()
    data.weights[:] = -1
    assert not dense(fit(data, CovisitationConfig(), no_progress)).any()


@pytest.mark.parametrize("calls", [1, 2])
def test_a_fit_ends_when_it_is_cancelled(calls: int) -> None:
    with pytest.raises(Cancelled):
        fit(random_interactions(), COVISITATION.config(), CancelAfter(calls))
