"""One training: checks, the fit on all there is, and figures where they are asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.evaluation.evaluate import KS, Evaluation
from engine.evaluation.evaluate import evaluate as evaluate_model
from engine.evaluation.splits import DEFAULT_SPLIT, SPLITS
from engine.models import BY_NAME
from engine.models.base import Interactions, ModelConfig, Progress, no_progress
from engine.models.progress import Phase
from engine.training.auto import AutoConfig
from engine.training.checks import check_hyperparameters, check_needs
from engine.training.fitting import Trained, fit
from engine.training.select import select
from engine.training.validation import Validation
from storage.exceptions import FailedPrecondition, InvalidArgument


def train(
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    data: Interactions,
    progress: Progress = no_progress,
    *,
    validate: bool = False,
) -> Trained:
    """Trains on all interactions.

    Args:
        algorithm: one of `checks.described`, "auto" included.
        hyperparameters: as they came in JSON.
        progress: told of phases; raises Cancelled when the training is to stop.
        validate: also fits on a training part and measures that on the rest, as "auto" does
            always; twice the time.

    Raises:
        InvalidArgument: UNKNOWN_ALGORITHM or INVALID_HYPERPARAMETERS.
        FailedPrecondition: NOT_ENOUGH_DATA or MODEL_TOO_LARGE.
        Cancelled: progress said so.
    """
    config = check_hyperparameters(algorithm, hyperparameters)
    check_needs(algorithm, data, config)
    if isinstance(config, AutoConfig):
        return select(data, config, progress)
    whole = Phase(progress)
    metrics: dict[str, float] = {}
    if validate:
        metrics = _measured(algorithm, config, data, whole.part(0, 0.5))
    model = fit(BY_NAME[algorithm], config, data, whole.part(0.5 if metrics else 0, 1))
    return Trained(model, algorithm, config.model_dump(mode="json"), metrics)


def _measured(
    algorithm: str, config: ModelConfig, data: Interactions, progress: Phase
) -> dict[str, float]:
    """Figures on the validation part that "auto" would take; none where there is too little."""
    validation = Validation.of(data, AutoConfig())
    if not len(validation.judged.users):
        return {}
    try:
        model = fit(BY_NAME[algorithm], config, validation.train, progress.part(0, 0.8))
    except FailedPrecondition:
        return {}
    return validation.evaluation(validation.rank(model, progress.part(0.8, 1))).metrics


def evaluate(
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    data: Interactions,
    split: str = DEFAULT_SPLIT,
    ks: Sequence[int] = KS,
    progress: Progress = no_progress,
) -> Evaluation:
    """Trains on one part of the interactions and measures on the other; the model is dropped.

    Users without a history in the first part are left out: other sources serve them.

    Args:
        split: one of `splits.SPLITS`.
        ks: list lengths.

    Raises:
        InvalidArgument: an unknown split, UNKNOWN_ALGORITHM or INVALID_HYPERPARAMETERS.
        FailedPrecondition: NOT_ENOUGH_DATA (of the training part) or MODEL_TOO_LARGE.
        Cancelled: progress said so.
    """
    config = check_hyperparameters(algorithm, hyperparameters)
    if split not in SPLITS:
        raise InvalidArgument.field("split", f"is none of {', '.join(SPLITS)}.")
    parts, whole = SPLITS[split](data), Phase(progress)
    fitting = whole.part(0, 0.8)
    if isinstance(config, AutoConfig):
        check_needs(algorithm, parts.train)
        model = select(parts.train, config, fitting).model
    else:
        model = fit(BY_NAME[algorithm], config, parts.train, fitting)
    matrix, wanted = parts.train.matrix(), parts.held_out.matrix(binary=True)
    known = np.flatnonzero(np.diff(matrix.indptr))
    return evaluate_model(model, matrix, wanted, ks, known, whole.part(0.8, 1))


__all__ = ["Trained", "evaluate", "train"]
