"""Forecasts of a series of counts with a season, by the better of two methods.

Seasonal-naive repeats the last season; exponential smoothing adds a level, a damped trend and a
season. Both with their intervals are in Hyndman and Athanasopoulos, Forecasting: Principles and
Practice, 3rd edition, chapters 5.5 and 8.7.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Floats: TypeAlias = NDArray[np.float64]

NEEDED_SEASONS = 2
SEASONAL_NAIVE = "seasonal_naive"
EXPONENTIAL_SMOOTHING = "exponential_smoothing"

_HELD_OUT_SEASONS = 4
_SMOOTHED_SEASONS = 3  # fewer say too little of the parameters and first states
_MAX_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a series will be.

    Attributes:
        values, low, high: float64, shape (horizon,), not below 0; the middle and the bounds.
        method: SEASONAL_NAIVE or EXPONENTIAL_SMOOTHING.
        errors: the mean absolute error on held-out seasons of each method that could be tried.
    """

    values: Floats
    low: Floats
    high: Floats
    method: str
    errors: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Path:
    """Means and standard deviations of the steps to come, shape (horizon,)."""

    means: Floats
    deviations: Floats


_Method: TypeAlias = Callable[[Floats, int, int], _Path | None]


def forecast(series: Floats, season: int, horizon: int, level: float) -> Forecast:
    """Forecasts a series with the method that errs less on its end.

    Each of the last seasons (at most four, and a quarter of the series) is forecast from what came
    before it. Exponential smoothing is left out where a fit has too little to go by or does not
    converge.

    Args:
        series: counts, shape (steps,), oldest first; at least two seasons.
        season: steps a season.
        horizon: how many steps to forecast, at least 1.
        level: the share of outcomes that lie within the bounds, above 0 and below 1.

    Raises:
        ValueError: the series is shorter than two seasons.
    """
    if len(series) < NEEDED_SEASONS * season:
        raise ValueError(f"{len(series)} steps are fewer than two seasons of {season}")
    errors: dict[str, float] = {}
    for name, method in _METHODS.items():
        error = _held_out_error(method, series, season)
        if error is not None:
            errors[name] = error
    for name in sorted(errors, key=errors.__getitem__):
        path = _METHODS[name](series, season, horizon)
        if path is not None:
            # The lower tail keeps its digits where a level next to 1 would round to 1.
            reach = -NormalDist().inv_cdf((1 - level) / 2) * path.deviations
            low, values, high = (
                np.maximum(bound, 0.0)
                for bound in (path.means - reach, path.means, path.means + reach)
            )
            return Forecast(values, low, high, name, errors)
    raise AssertionError("seasonal-naive always answers")


def _held_out_error(method: _Method, series: Floats, season: int) -> float | None:
    """Mean absolute error over the last seasons; None where the method could not answer."""
    held_out = max(1, min(_HELD_OUT_SEASONS, len(series) // (4 * season)))
    errors: list[Floats] = []
    for ahead in range(held_out, 0, -1):
        begin = len(series) - ahead * season
        path = method(series[:begin], season, season)
        if path is None:
            return None
        errors.append(np.abs(np.maximum(path.means, 0.0) - series[begin : begin + season]))
    return float(np.mean(errors))


def _seasonal_naive(series: Floats, season: int, horizon: int) -> _Path:
    """The last season again and again; its deviation grows with the root of the season's number."""
    steps = np.arange(horizon)
    residuals = series[season:] - series[:-season]
    spread = np.sqrt(np.mean(residuals**2)) if len(residuals) else 0.0
    return _Path(series[-season:][steps % season], spread * np.sqrt(steps // season + 1))


def _exponential_smoothing(series: Floats, season: int, horizon: int) -> _Path | None:
    """ETS(A,Ad,A); None where the series is too short or constant, or the fit does not converge."""
    if len(series) < _SMOOTHED_SEASONS * season or np.ptp(series) == 0:
        return None
    # Imported with the first forecast: it takes seconds and brings pandas along.
    from statsmodels.tools.sm_exceptions import ConvergenceWarning  # noqa: PLC0415
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel  # noqa: PLC0415

    # The matrices are tiny: threads of BLAS would take five times as long to agree on them.
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):
        # What they say is looked at below: whether the fit converged, and to finite numbers.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        model = ETSModel(
            series,
            error="add",
            trend="add",
            damped_trend=True,
            seasonal="add",
            seasonal_periods=season,
            initialization_method="heuristic",
        )
        fit = model.fit(disp=False, maxiter=_MAX_ITERATIONS)
        if not fit.mle_retvals["converged"]:
            return None
        means = np.asarray(fit.forecast(horizon), np.float64)
    found = dict(zip(model.param_names, fit.params, strict=True))
    later = np.arange(1, horizon)
    weights = (
        found["smoothing_level"]
        + found["smoothing_trend"] * np.cumsum(found["damping_trend"] ** later)
        + found["smoothing_seasonal"] * (later % season == 0)
    )
    # Estimated are the smoothing parameters, level, trend, and a season whose states sum up to 0.
    free = len(series) - len(found) - season - 1
    variance = np.sum(np.asarray(fit.resid) ** 2) / free
    deviations = np.sqrt(variance * np.concatenate(([1.0], 1 + np.cumsum(weights**2))))
    if not (np.isfinite(means).all() and np.isfinite(deviations).all()):
        return None
    return _Path(means, deviations)


_METHODS: dict[str, _Method] = {
    SEASONAL_NAIVE: _seasonal_naive,
    EXPONENTIAL_SMOOTHING: _exponential_smoothing,
}
