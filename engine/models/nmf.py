"""NMF: factors that only add up, never cancel (scikit-learn).

Lee and Seung, "Learning the parts of objects by non-negative matrix factorization", Nature 1999;
coordinate descent after Cichocki and Phan, IEICE 2009. A live history is folded in by ridge
regression on the entities' factors, where a user's part may be negative.
"""

import warnings
from typing import Literal

import numpy as np
from pydantic import Field
from sklearn import decomposition
from sklearn.exceptions import ConvergenceWarning

from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.factors import FactorModel, ridge


class NmfConfig(ModelConfig):
    """Hyperparameters of nmf."""

    n_components: int = Field(
        20, ge=1, le=512, description="factors; no more are taken than users or entities allow"
    )
    solver: Literal["cd", "mu"] = Field(
        "cd", description="coordinate descent or multiplicative updates"
    )
    max_iter: int = Field(200, ge=1, le=5000, description="rounds at most")
    tol: float = Field(1e-4, ge=0, le=1, description="improvement below which it ends")
    fold_in: float = Field(
        0.01, gt=0, le=100, description="ridge of the way from a history to factors, of the mean"
    )
    random_state: int = Field(42, ge=0, le=2**32 - 1, description="seed")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(False, description="every positive weight counts 1")


def fit(data: Interactions, config: NmfConfig, progress: Progress) -> FactorModel:
    """Factors of the entities."""
    progress("counting", 0.0)
    matrix = data.matrix(config.half_life_days, binary=config.binary)
    nmf = decomposition.NMF(
        n_components=max(1, min(config.n_components, *matrix.shape)),
        init="nndsvda",
        solver=config.solver,
        max_iter=config.max_iter,
        tol=config.tol,
        random_state=config.random_state,
    )
    progress("factorising", 0.1)
    with warnings.catch_warnings():
        # max_iter is the caller's choice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        nmf.fit(matrix)
    progress("factorising", 0.95)
    factors = np.ascontiguousarray(nmf.components_.T, np.float32)
    factors[np.bincount(matrix.indices, minlength=data.n_items) == 0] = 0
    mean = float(np.square(factors).sum()) / factors.shape[1]
    return FactorModel(
        data.entity_nos,
        factors,
        ridge(factors, max(config.fold_in * mean, np.finfo(np.float32).tiny)),
        binary=config.binary,
        half_life_days=config.half_life_days,
    )


NMF = Algorithm(
    name="nmf",
    summary="Factors that only add up, by non-negative matrix factorisation.",
    config=NmfConfig,
    fit=fit,
    grid=tuple(NmfConfig(n_components=n, binary=True) for n in (10, 20, 40)),
)
