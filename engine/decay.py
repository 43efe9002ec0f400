"""Exponential decay that looks forward.

After Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay: A Practical Time Decay Model for
Streaming Systems", ICDE 2009.

An event of weight w at time t adds `w * exp(rate * (t - landmark))` times its vector. Nothing that
is stored depends on the present, so events may come late, in any order and at the same time, and
adding is all that a writer does. Seen from `now`, the state is divided by
`exp(rate * (now - landmark))`; a cosine does not even need that.

These functions are the reference for the accumulator of `user_profiles`, which SQL updates.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_EXPONENT = 40.0
"""Largest `rate * (t - landmark)` that is stored: with vectors up to 65504 and weights up to a
million, e**40 leaves room for ten thousand million events below the largest float32."""


def half_life_to_rate(half_life: float) -> float:
    """The rate (1/s) at which a weight halves every `half_life` seconds."""
    if not (math.isfinite(half_life) and half_life > 0):
        raise ValueError(f"a half-life must be positive, not {half_life}")
    return math.log(2) / half_life


def forward_decay_weight(
    weights: NDArray[np.float64], times: NDArray[np.float64], landmark: float, rate: float
) -> NDArray[np.float64]:
    """`weight * exp(rate * (time - landmark))`; times in seconds, rate in 1/s.

    Times must not lie further ahead of the landmark than `MAX_EXPONENT / rate`.
    """
    return weights * np.exp(rate * (times - landmark))


def next_landmark(landmark: float, newest: float, rate: float) -> float:
    """The landmark before an event at `newest` is added: moved there when it would not fit."""
    return newest if rate * (newest - landmark) > MAX_EXPONENT else landmark


@dataclass(frozen=True, slots=True)
class Accumulator:
    """Decayed sum of vectors (d,), in units of an event that happens at `landmark` (s)."""

    vector: NDArray[np.float64]
    landmark: float

    def rebase(self, landmark: float, rate: float) -> "Accumulator":
        """The same state in units of a later landmark."""
        factor = math.exp(-rate * (landmark - self.landmark))
        return Accumulator(self.vector * factor, landmark)

    def add(
        self,
        vectors: NDArray[np.float64],
        weights: NDArray[np.float64],
        times: NDArray[np.float64],
        rate: float,
    ) -> "Accumulator":
        """Add events: vectors (n, d), weights (n,), times (n,) in seconds.

        Commutative and associative up to rounding.
        """
        if not len(times):
            return self
        state = self.rebase(next_landmark(self.landmark, float(times.max()), rate), rate)
        factors = forward_decay_weight(weights, times, state.landmark, rate)
        return Accumulator(state.vector + factors @ vectors, state.landmark)

    def value_at(self, time: float, rate: float) -> NDArray[np.float64]:
        """The sum of `weight * exp(-rate * (time - t)) * vector` over the events."""
        return self.vector * math.exp(-rate * (time - self.landmark))


def empty(dimension: int, landmark: float) -> Accumulator:
    """The state before any event; `landmark` is best the time of the first one."""
    return Accumulator(np.zeros(dimension), landmark)
