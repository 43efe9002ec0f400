"""SVD: the directions in which histories differ most (scikit-learn's TruncatedSVD).

Cremonesi, Koren, Turrin, "Performance of recommender algorithms on top-N recommendation tasks",
RecSys 2010 (PureSVD): a user is their row times the right singular vectors.
"""

from typing import Literal

import numpy as np
from pydantic import Field
from sklearn.decomposition import TruncatedSVD

from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.factors import FactorModel


class SvdConfig(ModelConfig):
    """Hyperparameters of svd."""

    n_components: int = Field(
        50, ge=1, le=2048, description="factors; no more are taken than users or entities allow"
    )
    algorithm: Literal["randomized", "arpack"] = Field("randomized", description="the solver")
    n_iter: int = Field(10, ge=0, le=100, description="power iterations of the randomized solver")
    random_state: int = Field(42, ge=0, le=2**32 - 1, description="seed of the solver")
    tol: float = Field(0.0, ge=0, le=1, description="tolerance of arpack; 0: machine precision")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(False, description="every positive weight counts 1")


def fit(data: Interactions, config: SvdConfig, progress: Progress) -> FactorModel:
    """The right singular vectors of the matrix of weights."""
    progress("counting", 0.0)
    matrix = data.matrix(config.half_life_days, binary=config.binary)
    # arpack finds fewer vectors than the matrix has rows or columns.
    most = min(matrix.shape) - (config.algorithm == "arpack")
    svd = TruncatedSVD(
        n_components=max(1, min(config.n_components, most)),
        algorithm=config.algorithm,
        n_iter=config.n_iter,
        random_state=config.random_state,
        tol=config.tol,
    )
    progress("factorising", 0.1)
    svd.fit(matrix)
    progress("factorising", 0.95)
    return FactorModel(
        data.entity_nos,
        np.ascontiguousarray(svd.components_.T, np.float32),
        binary=config.binary,
        half_life_days=config.half_life_days,
    )


SVD = Algorithm(
    name="svd",
    summary="The directions in which histories differ most, by truncated SVD.",
    config=SvdConfig,
    fit=fit,
    grid=tuple(SvdConfig(n_components=n) for n in (20, 50, 100, 200)),
)
