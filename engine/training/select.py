"""The automatic choice: candidates race on a validation part, the winner is fitted on all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.models import BY_NAME
from engine.models.base import AnyAlgorithm, Interactions, ModelConfig, Progress
from engine.models.progress import Forward, Phase
from engine.training.auto import AUTO, AutoConfig
from engine.training.blends import HYBRID, race_blends
from engine.training.choice import choose
from engine.training.fitting import Trained, fit
from engine.training.race import Budget, Clock, Race, settings_of
from engine.training.validation import K, Validation
from storage.exceptions import FailedPrecondition

SMALL_CATALOGUE = 10_000
"""Up to so many entities the inverse of `ease` is quick; above, `slim` is the partner to try."""

_PARTNERS = {"slim": ({"rel": 5.0, "p": 0.35, "q": 0.35}, {"rel": 15.0, "p": 0.35, "q": 0.35})}
"""Settings of what is tried for the sake of blends: what is best alone is not the best partner."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage of the race: its most share of the time, and its share of the progress."""

    name: str
    time: float
    progress: float


_STEPS = {
    "popularity": _Step("popularity", 0.05, 1),
    "item_knn": _Step("item_knn", 0.1, 4),
    "als": _Step("als", 0.08, 8),
    "spectral": _Step("spectral", 0.5, 40),
    "ease": _Step("ease", 0.2, 15),
    "slim": _Step("slim", 0.15, 10),
    HYBRID: _Step(HYBRID, 0.15, 10),
}
_VARIANTS = _Step("variants", 0.1, 6)
_OTHER_TIME, _OTHER_PROGRESS = 0.1, 6
_REFIT_PROGRESS = 20


def select(
    data: Interactions,
    config: AutoConfig,
    progress: Progress,
    *,
    algorithms: Mapping[str, AnyAlgorithm] = BY_NAME,
    clock: Clock | None = None,
) -> Trained:
    """Splits, tries, chooses, and fits the winner on all interactions.

    Judged by Recall@20 + NDCG@20 on fixed validation users; of those not told apart from the best
    the simplest wins (`choice.choose`). Without anybody to judge on, that is the first candidate.

    Args:
        algorithms: by name; candidates that are missing are passed over.
        clock: monotonic seconds.

    Raises:
        FailedPrecondition: NOT_ENOUGH_DATA: no candidate could be trained.
        Cancelled: progress said so.
    """
    budget = Budget(config.seconds) if clock is None else Budget(config.seconds, clock)
    names = candidates(data, config, algorithms)
    whole = Phase(Forward(progress))
    whole("splitting", 0.0)
    validation = Validation.of(data, config)
    if not len(validation.judged.users):
        return _unjudged(names[0], data, algorithms, validation, whole)
    race = Race(algorithms, validation, budget, blends=HYBRID in names)
    steps = [_STEPS.get(n, _Step(n, _OTHER_TIME, _OTHER_PROGRESS)) for n in names] + [_VARIANTS]
    total = sum(step.progress for step in steps) + _REFIT_PROGRESS
    done = 0.0
    for step in steps:
        part = whole.part(done / total, (done + step.progress) / total)
        _runner(step, race, config)(part)
        done += step.progress
    if not race.contenders:
        why = "; ".join(f"{row['algorithm']}: {row['note']}" for row in race.rows)
        raise FailedPrecondition(f"No candidate could be trained: {why}", reason="NOT_ENOUGH_DATA")
    race.forget_models()
    won, why = choose(race.contenders)
    evaluation = validation.evaluation(won.ranked)
    refit = whole.part(done / total, 1, f"fitting {won.algorithm}")
    model = fit(algorithms[won.algorithm], won.config, data, refit)
    report = _facts(validation) | {
        "budget_seconds": config.seconds,
        "seconds": round(budget.spent, 3),
        "trials": race.rows,
        "chosen": {
            "algorithm": won.algorithm,
            "settings": settings_of(won.config),
            "score": round(won.score, 6),
            "why": why,
        },
    }
    settings = won.config.model_dump(mode="json")
    return Trained(model, won.algorithm, settings, evaluation.metrics, report)


def candidates(
    data: Interactions, config: AutoConfig, algorithms: Mapping[str, AnyAlgorithm]
) -> list[str]:
    """Whom to try, in order; the simple ones first, blends last."""
    small = len(np.unique(data.items)) <= SMALL_CATALOGUE
    names = config.candidates or (
        "popularity", "item_knn", "als", "spectral", "ease" if small else "slim", HYBRID,
    )  # fmt: skip
    known = [name for name in dict.fromkeys(names) if name in algorithms and name != HYBRID]
    if not known:
        raise FailedPrecondition(
            f"{AUTO} has no candidate that is not a blend.", reason="NOT_ENOUGH_DATA"
        )
    return known + [HYBRID] * (HYBRID in names and HYBRID in algorithms)


def _runner(step: _Step, race: Race, config: AutoConfig) -> Callable[[Phase], None]:
    """What a step does."""
    if step is _VARIANTS:
        return lambda part: _race_variants(race, config, step, part.part(0, 1, "trying variants"))
    if step.name == HYBRID:
        return lambda part: race_blends(race, step.time, part.part(0, 1, "blending"))
    algorithm = race.algorithms[step.name]
    partners = _PARTNERS.get(step.name, ()) if race.blends else ()
    if algorithm.tune is not None and not partners:
        return lambda part: race.tune(step.name, step.time, part.part(0, 1, f"tuning {step.name}"))
    grid = (
        tuple(algorithm.config.model_validate(settings) for settings in partners)
        or algorithm.grid
        or (algorithm.config(),)
    )
    said = f"trying {step.name}"
    return lambda part: race.grid(step.name, grid, step.time, part.part(0, 1, said))


def _race_variants(race: Race, config: AutoConfig, step: _Step, part: Phase) -> None:
    """The best single model once more: with weights as they are, and forgetting with age."""
    best = race.best_of(*(c.algorithm for c in race.contenders if c.algorithm != HYBRID))
    if best is None:
        return
    fields = type(best.config).model_fields
    settings: list[dict[str, Any]] = []
    weights = race.validation.train.weights
    if getattr(best.config, "binary", False) and len(weights) and np.ptp(weights) > 0:
        settings.append({"binary": False})
    if "half_life_days" in fields and race.validation.by_time:
        settings += [{"half_life_days": days} for days in config.half_lives_days]
    configs: list[ModelConfig] = [best.config.model_copy(update=change) for change in settings]
    race.grid(best.algorithm, configs, step.time, part)


def _unjudged(
    name: str,
    data: Interactions,
    algorithms: Mapping[str, AnyAlgorithm],
    validation: Validation,
    whole: Phase,
) -> Trained:
    """The first candidate with its own settings: nobody can tell which is better."""
    settings = algorithms[name].config()
    model = fit(algorithms[name], settings, data, whole.part(0, 1, f"fitting {name}"))
    why = "No user is left to judge on: none has interactions in both parts of the split."
    report = _facts(validation) | {"trials": [], "chosen": {"algorithm": name, "why": why}}
    return Trained(model, name, settings.model_dump(mode="json"), {}, report)


def _facts(validation: Validation) -> dict[str, Any]:
    return {
        "judged_by": f"recall@{K} + ndcg@{K}",
        "split": validation.split,
        "users": len(validation.judged.users),
        "interactions": {
            "train": len(validation.train),
            "validation": int(validation.judged.relevant.nnz),
        },
    }
