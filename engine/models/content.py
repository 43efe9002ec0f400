"""Content neighbours: entities with feature vectors that point the same way (cosine)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.models.base import Algorithm, Interactions, ModelConfig, Needs, Progress
from engine.models.forms.neighbours import NeighbourMatrix
from engine.models.linear.rows import top_rows
from storage.exceptions import FailedPrecondition


class ContentConfig(ModelConfig):
    """Hyperparameters of content."""

    k: int = Field(200, ge=1, le=2000, description="neighbours kept of each entity")
    minimum: float = Field(0.0, ge=0, lt=1, description="cosines must be larger than this")
    last: int | None = Field(
        None, ge=1, le=10_000, description="only so many of the newest entities count; all if unset"
    )
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(False, description="every positive weight of the history counts 1")


def fit(data: Interactions, config: ContentConfig, progress: Progress) -> NeighbourMatrix:
    """Cosines of the feature vectors, block by block; interactions do not matter.

    Raises:
        FailedPrecondition: NOT_ENOUGH_DATA: fewer than two entities have a vector.
    """
    progress("measuring", 0.0)
    units = np.zeros((0, 0), np.float32) if data.vectors is None else _units(data.vectors)
    present = int(np.count_nonzero(units.any(axis=1)))
    if present < 2:
        raise FailedPrecondition(
            f"content needs at least 2 entities with feature vectors, there are {present}.",
            reason="NOT_ENOUGH_DATA",
        )

    def fill(block: slice, rows: NDArray[np.float32]) -> None:
        np.matmul(units[block], units.T, out=rows)
        rows[rows <= config.minimum] = 0

    rows = top_rows(data.n_items, config.k, fill, progress)
    return NeighbourMatrix.from_matrix(
        data.entity_nos,
        rows,
        binary=config.binary,
        half_life_days=config.half_life_days,
        last=config.last,
    )


def _units(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """The vectors at length 1; those without a length stay zero."""
    units = vectors.astype(np.float32)
    lengths = np.linalg.norm(units, axis=1, keepdims=True)
    np.divide(units, lengths, out=units, where=lengths > 0)
    return units


CONTENT = Algorithm(
    name="content",
    summary="Entities with similar feature vectors, by cosine.",
    config=ContentConfig,
    fit=fit,
    needs=Needs(users=0, items=2, interactions=0),
)
