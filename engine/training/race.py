"""Fits that are judged on the same users, within a budget of time, and the record of each."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.bootstrap import intervals
from engine.evaluation.metrics import Ranked
from engine.models.base import AnyAlgorithm, ModelConfig, Trial
from engine.models.forms.base import ServingModel
from engine.models.progress import Phase
from engine.training.checks import missing
from engine.training.validation import Validation
from storage.exceptions import FailedPrecondition

BLENDED = ("spectral", "ease", "slim")
"""Algorithms whose matrices are blended."""

Clock = Callable[[], float]
_RESERVE = 1.25

# One candidate that cannot cope with the data must not cost the others.
_UNFIT = (ArithmeticError, MemoryError, ValueError, FailedPrecondition)


class Budget:
    """Time for the race, of which some is kept for the winner's fit on all interactions.

    Args:
        seconds: for everything.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock
        self._begun = clock()
        self._reserve = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._begun

    @property
    def left(self) -> float:
        """Seconds that trials may still take; below zero when it is over."""
        return self.seconds - self.spent - self._reserve

    def keep(self, seconds: float) -> None:
        """A fit that may have to be repeated at the end takes so long."""
        self._reserve = max(self._reserve, _RESERVE * seconds)


@dataclass(frozen=True, slots=True)
class Contender:
    """A setting that was fitted on the training part and judged as it would be served.

    Attributes:
        algorithm: its name.
        config: its settings.
        ranked: its lists for the judged users.
        values: what each user's list is worth, float64 (users,).
        seconds: that its fit took.
        model: kept where it may be blended.
    """

    algorithm: str
    config: ModelConfig
    ranked: Ranked
    values: NDArray[np.float64]
    seconds: float
    model: ServingModel | None = None

    @property
    def score(self) -> float:
        """The mean of its values."""
        return float(self.values.mean())


class Race:
    """The contenders so far, and a row of the report for everything that was tried.

    Args:
        algorithms: by name.
        validation: what is learned from and judged on.
        budget: no trial begins when it is used up; the first one always does.
        blends: whether models that can be blended are kept.
    """

    def __init__(
        self,
        algorithms: Mapping[str, AnyAlgorithm],
        validation: Validation,
        budget: Budget,
        *,
        blends: bool = False,
    ) -> None:
        self.algorithms = algorithms
        self.validation = validation
        self.budget = budget
        self.contenders: list[Contender] = []
        self.rows: list[dict[str, Any]] = []
        self.blends = blends
        self._took: dict[str, float] = {}

    def in_time(self, name: str) -> bool:
        """Whether another trial of the algorithm may begin; says so in the report if not."""
        if not self.contenders or self.budget.left > self._took.get(name, 0.0):
            return True
        self.note(name, None, "skipped", "no time left")
        return False

    def grid(self, name: str, configs: Sequence[ModelConfig], share: float, phase: Phase) -> None:
        """Tries settings one after the other.

        Args:
            share: of the whole budget; no trial of these begins after it.
        """
        until = self.budget.spent + share * self.budget.seconds
        for number, config in enumerate(configs):
            if number and self.budget.spent >= until:
                self.note(name, config, "skipped", "its share of the time is used up")
                continue
            part = phase.part(number / len(configs), (number + 1) / len(configs))
            if self.in_time(name) and self._fits(name, config):
                self._try(name, config, part)

    def tune(self, name: str, share: float, phase: Phase) -> None:
        """Lets an algorithm look for its own settings; its best one becomes a contender."""
        algorithm = self.algorithms[name]
        tune = algorithm.tune
        assert tune is not None
        if not (self.in_time(name) and self._fits(name, algorithm.config())):
            return
        seconds = min(share * self.budget.seconds, max(self.budget.left, 0.0))
        watched = _Timed(phase, self.budget, self.budget.spent, seconds)
        last: list[tuple[float, ServingModel, Ranked]] = []

        def judge(model: ServingModel) -> float:
            ranked = self.validation.rank(model, watched)
            score = float(self.validation.values(ranked).mean())
            last[:] = [(score, model, ranked)]
            return score

        try:
            trials = tune(self.validation.train, judge, seconds, phase)
        except _UNFIT as error:
            self.note(name, None, "failed", _said(error))
            return
        *others, won = trials
        for trial in others:
            self._row(name, trial.config, trial.score, trial.seconds, "tuning")
        took = _fit_seconds(trials)
        if last and last[0][0] == won.score:
            self._enter(name, won.config, last[0][1], last[0][2], took)
        else:
            self._try(name, won.config, phase.part(0.9, 1))

    def enter(
        self, name: str, config: ModelConfig, model: ServingModel, seconds: float, phase: Phase
    ) -> None:
        """Judges a model that is there; seconds is what its fit would take."""
        self._enter(name, config, model, self.validation.rank(model, phase), seconds)

    def best_of(self, *names: str) -> Contender | None:
        """The best contender of some algorithms; None where there is none."""
        found = [contender for contender in self.contenders if contender.algorithm in names]
        return max(found, key=lambda contender: contender.score, default=None)

    def forget_models(self) -> None:
        """Frees the memory of models that were kept to be blended."""
        self.contenders = [replace(contender, model=None) for contender in self.contenders]

    def note(self, name: str, config: ModelConfig | None, state: str, why: str) -> None:
        """A row of the report for what was not judged."""
        row = {"algorithm": name, "settings": settings_of(config), "state": state, "note": why}
        if row not in self.rows:
            self.rows.append(row)

    def _fits(self, name: str, config: ModelConfig) -> bool:
        algorithm, train = self.algorithms[name], self.validation.train
        why = missing(name, algorithm.needs, train) or algorithm.refuse(train, config)
        if why:
            self.note(name, config, "skipped", why)
        return not why

    def _try(self, name: str, config: ModelConfig, phase: Phase) -> None:
        begun = self.budget.clock()
        try:
            fit = self.algorithms[name].fit
            model = fit(self.validation.train, config, phase.part(0, 0.8))
            took = self.budget.clock() - begun
            ranked = self.validation.rank(model, phase.part(0.8, 1))
        except _UNFIT as error:
            self.note(name, config, "failed", _said(error))
            return
        self._enter(name, config, model, ranked, took)
        self._took[name] = self.budget.clock() - begun

    def _enter(
        self, name: str, config: ModelConfig, model: ServingModel, ranked: Ranked, seconds: float
    ) -> None:
        values = self.validation.values(ranked)
        kept = model if self.blends and name in BLENDED else None
        self.contenders.append(Contender(name, config, ranked, values, seconds, kept))
        self.budget.keep(seconds)
        self._row(name, config, float(values.mean()), seconds, "judged", values)

    def _row(
        self,
        name: str,
        config: ModelConfig,
        score: float,
        seconds: float,
        state: str,
        values: NDArray[np.float64] | None = None,
    ) -> None:
        row = {
            "algorithm": name,
            "settings": settings_of(config),
            "state": state,
            "score": round(score, 6),
            "seconds": round(seconds, 3),
        }
        if values is not None:
            found = intervals({"score": values})["score"]
            row |= {"low": round(found.low, 6), "high": round(found.high, 6)}
        self.rows.append(row)


@dataclass(frozen=True, slots=True)
class _Timed:
    """Progress of a search: the share of its time that is spent, whatever a trial says."""

    report: Phase
    budget: Budget
    begun: float
    seconds: float

    def __call__(self, phase: str, share: float) -> None:
        """See Progress."""
        self.report(phase, (self.budget.spent - self.begun) / max(self.seconds, 1.0))


def settings_of(config: ModelConfig | None) -> dict[str, Any]:
    """The settings that are not the defaults, JSON-ready."""
    return {} if config is None else config.model_dump(mode="json", exclude_defaults=True)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _fit_seconds(trials: Sequence[Trial[Any]]) -> float:
    """A whole fit: trials share work, so the costliest ones together."""
    return sum(sorted(trial.seconds for trial in trials)[-2:])
