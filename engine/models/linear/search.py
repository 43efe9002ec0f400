"""Coordinate search over grids, within a time limit."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from engine.models.base import ModelConfig, Trial

C = TypeVar("C", bound=ModelConfig)

LEAST_GAIN = 0.01
"""A step away from where the search stands must gain so much of the score, as a more complicated
model must (engine.training.choice): less is noise of the users judged on and of what they did in
the validation part, and many such steps together lead astray."""


class Deadline:
    """How much of a number of seconds is left, by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._begun = time.monotonic()
        self._seconds = seconds

    @property
    def spent(self) -> float:
        """The share that is spent, 0 to 1."""
        if self._seconds <= 0:
            return 1.0
        return min(1.0, (time.monotonic() - self._begun) / self._seconds)


def climb(
    start: C,
    grids: Mapping[str, Sequence[Any]],
    score: Callable[[C], float],
    deadline: Deadline,
) -> list[Trial[C]]:
    """One coordinate pass: each field in turn steps along its grid as long as that helps.

    The first step goes up, and down where up did not help; to help is to gain LEAST_GAIN. At the
    end of the time no further trial begins; the start is always tried.

    Returns:
        The trials in their order, but for the last: where the search ended.

    Args:
        start: its values lie on the grids.
        grids: ascending values of each field, in the order of the pass.
        score: of a setting, higher is better.
        deadline: when to stop.
    """
    trials: list[Trial[C]] = []

    def attempt(config: C) -> Trial[C]:
        begun = time.monotonic()
        trial = Trial(config, score(config), time.monotonic() - begun)
        trials.append(trial)
        return trial

    top = attempt(start)
    for name, grid in grids.items():
        origin = top
        place = grid.index(getattr(origin.config, name))
        for step in (1, -1):
            if top is not origin:
                break
            at = place + step
            while 0 <= at < len(grid) and deadline.spent < 1:
                trial = attempt(top.config.model_copy(update={name: grid[at]}))
                if trial.score <= (1 + LEAST_GAIN) * top.score:
                    break
                top, at = trial, at + step
    return [*(trial for trial in trials if trial is not top), top]


def winner(trials: Sequence[Trial[C]]) -> Trial[C]:
    """Where a climb ended."""
    return trials[-1]


def as_served(trials: Sequence[Trial[C]], score: float, seconds: float) -> list[Trial[C]]:
    """Trials whose last one has the score of the model as it is served, cut to K.

    The cut costs the other settings about as much, so their scores change by the same factor and
    keep their order.

    Args:
        trials: scored uncut.
        score: of the last one, cut.
        seconds: that its cut and its score took.
    """
    top = winner(trials)
    factor = score / top.score if top.score > 0 else 1.0
    return [
        Trial(trial.config, score, trial.seconds + seconds)
        if trial is top
        else Trial(trial.config, trial.score * factor, trial.seconds)
        for trial in trials
    ]
