"""Blends of matrices that are fitted already: no fit is repeated to try a weight."""

from engine.models.base import ModelConfig
from engine.models.forms.neighbours import NeighbourMatrix
from engine.models.hybrid import sum_matrices
from engine.models.progress import Phase
from engine.training.race import Contender, Race

HYBRID = "hybrid"
_WEIGHTS = {"ease": (0.3, 0.6, 1.0, 1.5), "slim": (0.1, 0.2, 0.4)}
"""What a partner counts beside `spectral`, of whose norm its matrix is first made."""


def race_blends(race: Race, share: float, phase: Phase) -> None:
    """Tries `spectral` with the best matrices of its partners at several weights."""
    until = race.budget.spent + share * race.budget.seconds
    first = race.best_of("spectral")
    if first is None or not isinstance(first.model, NeighbourMatrix):
        return
    tries = [
        (second, weight)
        for second in race.contenders
        if isinstance(second.model, NeighbourMatrix)
        for weight in _WEIGHTS.get(second.algorithm, ())
    ]
    for number, (second, weight) in enumerate(tries):
        config = _config(race, first, second, weight)
        if race.budget.spent >= until or race.budget.left <= 0:
            race.note(HYBRID, config, "skipped", "no time left")
            continue
        assert isinstance(second.model, NeighbourMatrix)
        part = phase.part(number / len(tries), (number + 1) / len(tries))
        model = sum_matrices([first.model, second.model], [1.0, weight], _k(first))
        race.enter(HYBRID, config, model, first.seconds + second.seconds, part)


def _k(contender: Contender) -> int:
    return int(contender.config.model_dump()["k"])


def _config(race: Race, first: Contender, second: Contender, weight: float) -> ModelConfig:
    """The settings with which `hybrid` makes that blend from the interactions."""
    config: ModelConfig = race.algorithms[HYBRID].config.model_validate(
        {
            "method": "matrix",
            "k": _k(first),
            "components": [
                {
                    "algorithm": contender.algorithm,
                    "hyperparameters": contender.config.model_dump(mode="json"),
                    "weight": part,
                }
                for contender, part in ((first, 1.0), (second, weight))
            ],
        }
    )
    return config
