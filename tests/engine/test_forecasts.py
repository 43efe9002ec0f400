"""Forecasts: a season is found, bounds cover what they say, and the better method answers."""

import numpy as np
import pytest

from engine.forecasts import (
    EXPONENTIAL_SMOOTHING,
    SEASONAL_NAIVE,
    Floats,
    _exponential_smoothing,
    forecast,
)

WEEK = np.array([40.0, 10, 12, 14, 20, 60, 80])


def weekly(steps: int, rng: np.random.Generator, spread: float = 3.0) -> Floats:
    return np.maximum(WEEK[np.arange(steps) % 7] + rng.normal(0, spread, steps), 0)


def seasonal_walk(steps: int, rng: np.random.Generator) -> Floats:
    """Each day of the week walks for itself: what seasonal-naive takes a series for."""
    shocks = rng.normal(0, 5, (steps // 7 + 1, 7))
    return (np.cumsum(shocks, axis=0) + 500).ravel()[:steps]


@pytest.mark.parametrize("weeks", [2, 3, 4, 26])
def test_planted_season_is_recovered(weeks: int):
    series = weekly(7 * weeks + 14, np.random.default_rng(weeks))
    known, future = series[:-14], series[-14:]
    found = forecast(known, 7, 14, 0.9)
    of_mean = np.mean(np.abs(known.mean() - future))
    assert np.mean(np.abs(found.values - future)) < 0.3 * of_mean
    assert found.errors[found.method] == min(found.errors.values())


@pytest.mark.parametrize(
    ("make", "method"),
    [(weekly, EXPONENTIAL_SMOOTHING), (seasonal_walk, SEASONAL_NAIVE)],
    ids=["steady season", "walking season"],
)
@pytest.mark.parametrize("level", [0.6, 0.9])
def test_intervals_cover_their_level(make, method: str, level: float):
    rng = np.random.default_rng(5)
    covered, methods = [], []
    for _ in range(24):
        series = make(98 + 14, rng)
        found = forecast(series[:-14], 7, 14, level)
        covered.append((found.low <= series[-14:]) & (series[-14:] <= found.high))
        methods.append(found.method)
    assert abs(np.mean(covered) - level) < 0.08
    assert methods.count(method) > 12


def test_intervals_equal_those_of_statsmodels():
    import pandas as pd
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    series = weekly(84, np.random.default_rng(2))
    path = _exponential_smoothing(series, 7, 21)
    assert path is not None
    model = ETSModel(
        pd.Series(series),
        error="add",
        trend="add",
        damped_trend=True,
        seasonal="add",
        seasonal_periods=7,
        initialization_method="heuristic",
    )
    fit = model.fit(disp=False, maxiter=200)
    theirs = fit.get_prediction(start=84, end=84 + 20)
    np.testing.assert_allclose(path.means, theirs.predicted_mean)
    free = np.sqrt(84 / (84 - 4 - 8))  # they divide by the number of steps alone
    np.testing.assert_allclose(path.deviations, free * np.sqrt(theirs.forecast_variance))


def test_seasonal_naive_repeats_and_widens_by_the_root_of_the_season():
    series = np.array([1.0, 5, 2, 6])  # too short for anything else
    found = forecast(series, 2, 5, 0.9)
    assert (found.method, set(found.errors)) == (SEASONAL_NAIVE, {SEASONAL_NAIVE})
    assert found.values.tolist() == [2, 6, 2, 6, 2]
    width = (found.high - found.values)[[0, 2, 4]]
    np.testing.assert_allclose(width, 1.6448536 * np.sqrt([1, 2, 3]), rtol=1e-6)


def test_zeros_stay_zeros():
    found = forecast(np.zeros(70), 7, 10, 0.9)
    for values in (found.values, found.low, found.high):
        assert values.tolist() == [0.0] * 10
    assert found.errors == {SEASONAL_NAIVE: 0.0}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_below_zero_or_out_of_order(seed: int):
    series = np.random.default_rng(seed).poisson(0.3, 120).astype(np.float64)
    found = forecast(series, 24, 366, 1 - 1e-16)
    assert (found.low >= 0).all()
    assert (found.low <= found.values).all()
    assert (found.values <= found.high).all()
    assert np.isfinite(found.high).all()


def test_series_below_two_seasons_is_refused():
    with pytest.raises(ValueError, match="two seasons"):
        forecast(np.ones(13), 7, 1, 0.9)
