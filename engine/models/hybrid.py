"""Hybrid: several algorithms as one model, by one matrix, by scores or by ranks."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator
from scipy.sparse.linalg import norm

from engine.models import BY_NAME
from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.base import ServingModel
from engine.models.forms.blend import Blend
from engine.models.forms.neighbours import NeighbourMatrix, keep_top
from storage.exceptions import InvalidArgument

NAME = "hybrid"


class Component(ModelConfig):
    """One of the algorithms of a hybrid."""

    algorithm: str = Field(description="an algorithm's name, hybrid excepted")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="the algorithm's own settings"
    )
    weight: float = Field(1.0, gt=0, le=1e6, description="how much it counts")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.algorithm == NAME or self.algorithm not in BY_NAME:
            known = ", ".join(name for name in BY_NAME if name != NAME)
            raise ValueError(f"{self.algorithm!r} is none of {known}")
        try:
            self.config()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"hyperparameters.{where}: {first['msg']}") from error
        return self

    def config(self) -> ModelConfig:
        """The algorithm's settings."""
        config: ModelConfig = BY_NAME[self.algorithm].config.model_validate(self.hyperparameters)
        return config


class HybridConfig(ModelConfig):
    """Hyperparameters of hybrid."""

    components: tuple[Component, ...] = Field(
        (
            Component.model_construct(algorithm="item_knn", hyperparameters={}, weight=1.0),
            Component.model_construct(algorithm="als", hyperparameters={}, weight=0.5),
        ),
        min_length=1,
        max_length=8,
        description="the algorithms, with settings and weights",
    )
    method: Literal["scores", "rrf", "matrix"] = Field(
        "scores",
        description="scores moved to 0..1, reciprocal ranks, or a sum of neighbour matrices"
        " (only where every component makes one)",
    )
    pool: int = Field(500, ge=10, le=10_000, description="entities of each that take part")
    k: int = Field(500, ge=1, le=2000, description="matrix: neighbours kept of each entity")


def sum_matrices(
    models: Sequence[NeighbourMatrix], weights: Sequence[float], k: int
) -> NeighbourMatrix:
    """One matrix: each brought to the Frobenius norm of the first, weighed, summed, cut to k.

    Weights count as shares of the first's. How a history is weighed is the first's affair.
    """
    first = models[0]
    total = first.matrix()
    size = norm(total)
    for model, weight in zip(models[1:], weights[1:], strict=True):
        other = model.matrix()
        scale = weight / weights[0] * size / (norm(other) or 1)
        total = total + other * np.float32(scale)
    total.sort_indices()
    return NeighbourMatrix.from_matrix(first.entity_nos, keep_top(total, k), **first.settings())


def fit(data: Interactions, config: HybridConfig, progress: Progress) -> ServingModel:
    """Every component in turn, then their blend."""
    models: list[ServingModel] = []
    for number, component in enumerate(config.components):

        def part(
            phase: str, share: float, done: int = number, name: str = component.algorithm
        ) -> None:
            progress(f"{name}: {phase}", (done + share) / (len(config.components) + 0.1))

        model = BY_NAME[component.algorithm].fit(data, component.config(), part)
        if config.method == "matrix" and not isinstance(model, NeighbourMatrix):
            raise InvalidArgument.field(
                "hyperparameters.method",
                f"{component.algorithm} makes no neighbour matrix; take scores or rrf",
                reason="INVALID_HYPERPARAMETERS",
            )
        models.append(model)
    progress("blending", len(models) / (len(models) + 0.1))
    weights = [component.weight for component in config.components]
    if config.method == "matrix":
        matrices = [model for model in models if isinstance(model, NeighbourMatrix)]
        return sum_matrices(matrices, weights, config.k)
    return Blend(models, weights, method=config.method, pool=config.pool)


def refuse(data: Interactions, config: HybridConfig) -> str | None:
    """The first component's refusal that there is."""
    for component in config.components:
        why = BY_NAME[component.algorithm].refuse(data, component.config())
        if why is not None:
            return f"{component.algorithm}: {why}"
    return None


HYBRID = Algorithm(
    name=NAME,
    summary="Several algorithms as one, blended by matrix, by scores or by ranks.",
    config=HybridConfig,
    fit=fit,
    refuse=refuse,
)
