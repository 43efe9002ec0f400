"""A fit of checked settings, and what a training hands back."""

from dataclasses import dataclass
from typing import Any

from engine.models.base import AnyAlgorithm, Interactions, ModelConfig, Progress, no_progress
from engine.models.forms.base import ServingModel
from engine.training.checks import missing
from storage.exceptions import FailedPrecondition


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training made.

    Attributes:
        model: fitted on all interactions.
        algorithm: what it was made with; of "auto" the winner.
        hyperparameters: JSON-ready, defaults and chosen settings included.
        metrics: of a fit on the training part, measured on the validation part; bounds end in
            ".low" and ".high". Empty where nothing was measured.
        report: what "auto" tried and why it chose; None for other algorithms.
    """

    model: ServingModel
    algorithm: str
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]
    report: dict[str, Any] | None = None


def fit(
    algorithm: AnyAlgorithm,
    config: ModelConfig,
    data: Interactions,
    progress: Progress = no_progress,
) -> ServingModel:
    """A model of checked settings.

    Raises:
        FailedPrecondition: NOT_ENOUGH_DATA or MODEL_TOO_LARGE.
        Cancelled: progress said so.
    """
    too_little = missing(algorithm.name, algorithm.needs, data)
    if too_little:
        raise FailedPrecondition(too_little, reason="NOT_ENOUGH_DATA")
    too_large = algorithm.refuse(data, config)
    if too_large:
        raise FailedPrecondition(too_large, reason="MODEL_TOO_LARGE")
    return algorithm.fit(data, config, progress)
