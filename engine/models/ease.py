"""Weighted EASE: the closed-form linear autoencoder, for catalogues up to 20,000 entities.

Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019; the denoising part of the
diagonal: Steck, "Autoencoders that don't overfit towards the identity", NeurIPS 2020.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from engine.models.base import Algorithm, Interactions, Judge, ModelConfig, Progress, Trial
from engine.models.forms.neighbours import NeighbourMatrix
from engine.models.linear.inverse import invert
from engine.models.linear.rows import top_rows
from engine.models.linear.search import Deadline, as_served, climb, winner
from engine.models.linear.uncut import Uncut
from engine.models.linear.weighting import column_sums, powers, scaled, weigh
from engine.models.progress import Phase

MAX_ITEMS = 20_000
_PASS_SHARE = 0.85

_GRIDS: dict[str, tuple[float, ...]] = {
    "rel": (0.3, 0.6, 1.0, 2.0, 4.0, 8.0),
    "a": (0.0, 0.1, 0.2, 0.3, 0.4),
    "drop": (0.0, 0.15, 0.3, 0.6),
    "q": (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4),
    "p": (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4),
    "b": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
}


class EaseConfig(ModelConfig):
    """Hyperparameters of ease; plain EASE has a, b, p, q and drop at 0."""

    a: float = Field(0.2, ge=0, le=1, description="power of a user's degree that is divided out")
    b: float = Field(0.2, ge=0, le=1, description="power of an entity's degree divided out")
    p: float = Field(0.1, ge=-1, le=1, description="power of a history entity's degree divided out")
    q: float = Field(0.1, ge=-1, le=1, description="power of a scored entity's degree multiplied")
    rel: float = Field(
        2.0, gt=0, le=10_000, description="ridge, as a multiple of the gram's mean diagonal"
    )
    drop: float = Field(
        0.3, ge=0, le=10, description="ridge in proportion to each entity's own diagonal"
    )
    k: int = Field(500, ge=1, le=2000, description="neighbours kept of each entity")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(True, description="every positive weight counts 1")


def coefficients(
    matrix: sparse.csr_matrix, config: EaseConfig, progress: Progress
) -> NDArray[np.float64]:
    """B of the weighted matrix, the diagonal zero; float64 (items, items).

    Args:
        matrix: users by items.
        config: a, b, rel and drop.
        progress: told after every part of the inverse.
    """
    weighted = weigh(matrix, config.a, config.b)
    inverse = np.zeros((matrix.shape[1],) * 2)
    (weighted.T @ weighted).astype(np.float64).toarray(out=inverse)
    diagonal = inverse.diagonal().copy()
    ridge = config.rel * diagonal.mean() + config.drop * diagonal
    # Nothing at all to learn from: any ridge will do.
    inverse[np.diag_indices_from(inverse)] += ridge if ridge.any() else 1.0
    invert(inverse, progress)
    inverse /= -inverse.diagonal().copy()
    np.fill_diagonal(inverse, 0)
    return inverse


def served(
    data: Interactions,
    matrix: sparse.csr_matrix,
    learned: NDArray[np.floating[Any]],
    config: EaseConfig,
    progress: Progress,
) -> NeighbourMatrix:
    """Coefficients as they are served: Di^-p B Di^q, k entries a row."""
    degrees = column_sums(matrix)
    left, right = powers(degrees, -config.p), powers(degrees, config.q)

    def fill(block: slice, rows: NDArray[np.float32]) -> None:
        np.multiply(learned[block], left[block, None], out=rows, casting="same_kind")
        np.multiply(rows, right, out=rows)

    kept = top_rows(data.n_items, config.k, fill, progress)
    return NeighbourMatrix.from_matrix(
        data.entity_nos, kept, binary=config.binary, half_life_days=config.half_life_days
    )


def fit(data: Interactions, config: EaseConfig, progress: Progress) -> NeighbourMatrix:
    """Inverts the penalised gram and cuts the rows."""
    progress("counting", 0.0)
    matrix = data.matrix(config.half_life_days, binary=config.binary)
    learned = coefficients(matrix, config, Phase(progress, 0, 0.9))
    return served(data, matrix, learned, config, Phase(progress, 0.9, 1))


def tune(
    train: Interactions, judge: Judge, seconds: float, progress: Progress
) -> Sequence[Trial[EaseConfig]]:
    """One coordinate pass, judged uncut; the winner is then judged as it is served."""
    deadline = Deadline(_PASS_SHARE * seconds)
    start = EaseConfig()
    matrix = train.matrix(binary=start.binary)
    degrees = column_sums(matrix)
    last: list[tuple[EaseConfig, NDArray[np.float32]]] = []

    def ticking(phase: str, share: float) -> None:
        progress(phase, _PASS_SHARE * deadline.spent)

    def learned(config: EaseConfig) -> NDArray[np.float32]:
        """B of a setting; what p and q are does not matter to it, so it is kept."""
        key = config.model_copy(update={"p": 0.0, "q": 0.0})
        if not last or last[0][0] != key:
            last.clear()
            last.append((key, coefficients(matrix, config, ticking).astype(np.float32)))
        return last[0][1]

    def score(config: EaseConfig) -> float:
        ticking("tuning", 0)
        whole = learned(config)
        left, right = powers(degrees, -config.p), powers(degrees, config.q)

        def scores(seen: sparse.csr_matrix) -> NDArray[np.float32]:
            ones = np.ones(seen.shape[0], np.float32)
            product: NDArray[np.float32] = scaled(seen.sign(), ones, left) @ whole
            product *= right
            return product

        return judge(Uncut(train.entity_nos, scores))

    trials = climb(start, _GRIDS, score, deadline)
    begun = time.monotonic()
    config = winner(trials).config
    model = served(train, matrix, learned(config), config, Phase(progress, _PASS_SHARE, 1))
    return as_served(trials, judge(model), time.monotonic() - begun)


def refuse(data: Interactions, config: EaseConfig) -> str | None:
    """Says so where the dense inverse would not fit into memory."""
    if data.n_items <= MAX_ITEMS:
        return None
    return (
        f"ease would need about {data.n_items**2 * 8 >> 30} GB of memory for the inverse over "
        f"{data.n_items} entities; it takes up to {MAX_ITEMS}"
    )


EASE = Algorithm(
    name="ease",
    summary="A linear autoencoder in closed form, for catalogues up to 20,000 entities.",
    config=EaseConfig,
    fit=fit,
    refuse=refuse,
    tune=tune,
)
