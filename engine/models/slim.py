"""Local ridge: each entity is regressed on its nearest entities alone, for sparse catalogues.

SLIM (Ning and Karypis, ICDM 2011) with the neighbours given, by the spectral model, so that every
entity costs one small linear system.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from engine.models import spectral
from engine.models.base import Algorithm, Interactions, Judge, ModelConfig, Progress, Trial
from engine.models.forms.neighbours import NeighbourMatrix, keep_top
from engine.models.linear.ridge import local_ridge
from engine.models.linear.search import Deadline, as_served, climb, winner
from engine.models.linear.weighting import column_sums, powers, scaled, weigh
from engine.models.progress import Phase

MAX_BYTES = 4 << 30
_THREADS = 2
_CHUNK = 512
_GRIDS: dict[str, tuple[float, ...]] = {
    "rel": (2.0, 5.0, 15.0),
    "q": (0.2, 0.3, 0.4, 0.5),
    "p": (0.2, 0.3, 0.4, 0.5),
    "drop": (0.0, 1.0, 2.0),
}


class SlimConfig(ModelConfig):
    """Hyperparameters of slim."""

    a: float = Field(0.3, ge=0, le=1, description="power of a user's degree that is divided out")
    b: float = Field(0.3, ge=0, le=1, description="power of an entity's degree divided out")
    p: float = Field(0.3, ge=-1, le=1, description="power of a history entity's degree divided out")
    q: float = Field(0.3, ge=-1, le=1, description="power of a scored entity's degree multiplied")
    rel: float = Field(
        5.0, gt=0, le=10_000, description="ridge, as a multiple of the gram's mean diagonal"
    )
    drop: float = Field(
        0.0, ge=0, le=10, description="ridge in proportion to each entity's own diagonal"
    )
    nearest: int = Field(150, ge=1, le=500, description="entities that each one is regressed on")
    k: int = Field(500, ge=1, le=2000, description="neighbours kept of each entity")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(True, description="every positive weight counts 1")


@dataclass(frozen=True, slots=True)
class _Ground:
    """What settings share: of each entity the nearest ones, and the gram.

    Attributes:
        degrees: float64 (items,).
        near: CSR (items, items) of the places of the nearest; its values do not matter.
        gram: float32 CSR (items, items), columns ascending.
    """

    degrees: NDArray[np.float64]
    near: sparse.csr_matrix
    gram: sparse.csr_matrix


@cache
def _compiled() -> Callable[..., None]:
    # Here, not above: who serves a model never waits for numba.
    import numba  # noqa: PLC0415

    return numba.njit(nogil=True, fastmath=True)(local_ridge)


def _ground(data: Interactions, config: SlimConfig, progress: Progress) -> _Ground:
    matrix = data.matrix(config.half_life_days, binary=config.binary)
    chosen = spectral.SpectralConfig(
        k=config.nearest, half_life_days=config.half_life_days, binary=config.binary
    )
    near = spectral.fit(data, chosen, progress)
    n = data.n_items
    weighted = weigh(matrix, config.a, config.b)
    gram = (weighted.T.tocsr() @ weighted).tocsr()
    gram.sort_indices()
    rows = sparse.csr_matrix((near.data, near.indices, near.indptr), shape=(n, n))
    return _Ground(column_sums(matrix), rows, gram)


def _regress(ground: _Ground, config: SlimConfig, progress: Progress) -> NDArray[np.float32]:
    """Coefficients of each entity's nearest ones, float32, in the order of ground.near."""
    diagonal = ground.gram.diagonal().astype(np.float64)
    ridge = config.rel * diagonal.mean() + config.drop * diagonal
    solved = np.zeros(ground.near.nnz, np.float32)
    progress("compiling", 0.0)
    solve, near, gram = _compiled(), ground.near, ground.gram

    def chunk(start: int) -> None:
        solve(
            start, min(start + _CHUNK, len(diagonal)), near.indptr, near.indices,
            gram.indptr, gram.indices, gram.data, ridge, solved,
        )  # fmt: skip

    pool = ThreadPoolExecutor(_THREADS)
    try:
        for done, _ in enumerate(pool.map(chunk, range(0, len(diagonal), _CHUNK)), 1):
            progress("regressing", min(1.0, done * _CHUNK / len(diagonal)))
    finally:
        pool.shutdown(cancel_futures=True)
    return solved


def _served(
    data: Interactions, ground: _Ground, solved: NDArray[np.float32], config: SlimConfig
) -> NeighbourMatrix:
    # Row j of near holds what predicts j, so the solution is W by columns.
    by_target = sparse.csr_matrix(
        (solved, ground.near.indices, ground.near.indptr), shape=ground.near.shape
    )
    left, right = powers(ground.degrees, -config.p), powers(ground.degrees, config.q)
    return NeighbourMatrix.from_matrix(
        data.entity_nos,
        keep_top(scaled(by_target.T.tocsr(), left, right), config.k),
        binary=config.binary,
        half_life_days=config.half_life_days,
    )


def fit(data: Interactions, config: SlimConfig, progress: Progress) -> NeighbourMatrix:
    """Finds the nearest entities of each and solves its ridge regression on them."""
    ground = _ground(data, config, Phase(progress, 0, 0.7))
    return _served(data, ground, _regress(ground, config, Phase(progress, 0.7, 1)), config)


def tune(
    train: Interactions, judge: Judge, seconds: float, progress: Progress
) -> Sequence[Trial[SlimConfig]]:
    """One coordinate pass over ridges and degree powers; the nearest are found once."""
    deadline = Deadline(0.9 * seconds)
    start = SlimConfig()
    ground = _ground(train, start, Phase(progress, 0, 0.4))
    last: list[tuple[tuple[float, float], NDArray[np.float32]]] = []

    def ticking(phase: str, share: float) -> None:
        progress(phase, 0.4 + 0.6 * deadline.spent)

    def model(config: SlimConfig) -> NeighbourMatrix:
        key = (config.rel, config.drop)
        if not last or last[0][0] != key:
            last[:] = [(key, _regress(ground, config, ticking))]
        return _served(train, ground, last[0][1], config)

    trials = climb(start, _GRIDS, lambda config: judge(model(config)), deadline)
    # Once more, so that the best model is the last that was judged.
    begun = time.monotonic()
    score = judge(model(winner(trials).config))
    return as_served(trials, score, time.monotonic() - begun)


def refuse(data: Interactions, config: SlimConfig) -> str | None:
    """Says so where the gram of all entities might not fit into memory."""
    degrees = np.bincount(data.users).astype(np.float64)
    pairs = min(float(np.sum(degrees**2)), float(data.n_items) ** 2)
    if 8 * pairs <= MAX_BYTES:
        chosen = spectral.SpectralConfig(k=config.nearest)
        return spectral.refuse(data, chosen)
    return (
        f"slim might need {int(8 * pairs) >> 30} GB of memory for the entities that users share, "
        f"more than {MAX_BYTES >> 30} GB"
    )


SLIM = Algorithm(
    name="slim",
    summary="Each entity regressed on its nearest ones, for sparse catalogues.",
    config=SlimConfig,
    fit=fit,
    refuse=refuse,
    tune=tune,
)
