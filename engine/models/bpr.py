"""BPR: factors that rank what a user has above what they have not (`implicit`).

Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit
feedback", UAI 2009. Weights only say what is liked: their size plays no part in the training.
"""

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.factors import FactorModel


class BprConfig(ModelConfig):
    """Hyperparameters of bpr."""

    factors: int = Field(64, ge=1, le=1024, description="dimensions of a user and of an entity")
    learning_rate: float = Field(0.05, gt=0, le=1, description="size of a step")
    regularization: float = Field(0.01, ge=0, le=10, description="weight of the factors' squares")
    iterations: int = Field(100, ge=1, le=2000, description="passes over the interactions")
    verify_negative_samples: bool = Field(
        True, description="draw again what the user has after all"
    )
    fold_in: float = Field(
        0.1, gt=0, le=100, description="ridge of the way from a history to factors, of the mean"
    )
    random_state: int = Field(42, ge=0, le=2**32 - 1, description="seed of factors and draws")


def fit(data: Interactions, config: BprConfig, progress: Progress) -> FactorModel:
    """Factors and biases of the entities, and how a history becomes a user's factors."""
    progress("counting", 0.0)
    matrix = data.matrix(binary=True)

    def each(iteration: int, _seconds: float, _correct: int, _skipped: int) -> None:
        progress("factorising", 0.05 + 0.9 * (iteration + 1) / config.iterations)

    with threadpool_limits(1, "blas"):
        bpr = BayesianPersonalizedRanking(
            factors=config.factors,
            learning_rate=config.learning_rate,
            regularization=config.regularization,
            iterations=config.iterations,
            verify_negative_samples=config.verify_negative_samples,
            random_state=config.random_state,
        )
        bpr.fit(matrix, show_progress=False, callback=each)
    progress("folding in", 0.95)
    factors = np.ascontiguousarray(bpr.item_factors[:, :-1])
    known = np.bincount(matrix.indices, minlength=data.n_items) > 0
    biases = bpr.item_factors[:, -1]
    # The same for all known entities, so the order stays, and fewer scores are below nothing.
    biases = np.where(known, biases - biases[known].min(initial=0), 0).astype(np.float32)
    projection = _projection(matrix @ factors, bpr.user_factors[:, :-1], config.fold_in)
    return FactorModel(data.entity_nos, factors, projection, biases, binary=True)


def _projection(
    sums: NDArray[np.float32], users: NDArray[np.float32], strength: float
) -> NDArray[np.float64]:
    """From the sum of a history's factors (n, f) to the user's (n, f), by ridge regression.

    Fitted on the trained users: the least squares of the history alone know nothing of the scale
    that ranking against what is not liked gives a user.
    """
    wide = sums.astype(np.float64)
    gram = wide.T @ wide
    size = len(gram)
    gram += (strength * np.trace(gram) / size + np.finfo(np.float32).tiny) * np.eye(size)
    return np.asarray(np.linalg.solve(gram, wide.T @ users), np.float64)


BPR = Algorithm(
    name="bpr",
    summary="Factors that rank what a user has above what they have not.",
    config=BprConfig,
    fit=fit,
    grid=(BprConfig(), BprConfig(factors=32), BprConfig(learning_rate=0.01)),
)
