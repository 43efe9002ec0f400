"""Power spectral filter: a linear model whose head is an SVD and whose tail is the sparse gram.

One spectral function of the normalised gram, f(x) = x^t down to the rank and a damped straight line
beyond it, as graph filtering does it: Shen et al., "How powerful is graph convolution for
recommendation?", CIKM 2021.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from engine.models.base import Algorithm, Interactions, Judge, ModelConfig, Progress, Trial
from engine.models.forms.neighbours import NeighbourMatrix
from engine.models.linear.rows import top_rows
from engine.models.linear.search import Deadline, as_served, climb, winner
from engine.models.linear.svd import OVERSAMPLING, Decomposition, Decompositions, decompose
from engine.models.linear.uncut import Uncut
from engine.models.linear.weighting import column_sums, powers, scaled, weigh
from engine.models.progress import Phase

MAX_BYTES = 8 << 30
SMALL_CATALOGUE = 4000
_RANK, _SMALL_RANK = 768, 128
# The pass ends early enough to cut and judge the winner as it will be served.
_PASS_SHARE = 0.8

_EXPONENTS = (0.1, 0.2, 0.3, 0.4, 0.5)
_GRIDS: dict[str, tuple[float, ...]] = {
    "a": _EXPONENTS,
    "tau": (0.2, 0.4, 0.6, 0.8, 1.0),
    "t": (0.05, 0.1, 0.15, 0.22, 0.32, 0.5),
    "rank": (256, 512, 768, 1024),
    "q": _EXPONENTS,
    "p": _EXPONENTS,
    "b": (0.3, 0.375, 0.45, 0.525, 0.6),
}
_SMALL_RANKS = (32, 64, 96, 128, 192, 256)


class SpectralConfig(ModelConfig):
    """Hyperparameters of spectral."""

    a: float = Field(0.3, ge=0, le=1, description="power of a user's degree that is divided out")
    b: float = Field(0.45, ge=0, le=1, description="power of an entity's degree divided out")
    p: float = Field(0.4, ge=-1, le=1, description="power of a history entity's degree divided out")
    q: float = Field(0.4, ge=-1, le=1, description="power of a scored entity's degree multiplied")
    rank: int | None = Field(
        None,
        ge=1,
        le=2048,
        description="singular vectors; by default 768, 128 for catalogues up to 4,000",
    )
    t: float = Field(0.15, gt=0, le=2, description="exponent of the filter; 1 filters nothing")
    tau: float = Field(0.4, ge=0, le=2, description="how much of the tail beyond the rank counts")
    k: int = Field(500, ge=1, le=2000, description="neighbours kept of each entity")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(True, description="every positive weight counts 1")


@dataclass(frozen=True, slots=True)
class Kernel:
    """heads directions + tails reached: low rank and sparse, never built as a whole.

    Attributes:
        heads: float32 (items, r).
        directions: float32 (r, items).
        tails: float32 CSR (items, users).
        reached: float32 CSR (users, items).
    """

    heads: NDArray[np.float32]
    directions: NDArray[np.float32]
    tails: sparse.csr_matrix
    reached: sparse.csr_matrix

    def scores(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """What histories (users, items) say of all items, the diagonal included."""
        scores: NDArray[np.float32] = (histories @ self.heads) @ self.directions
        scores += ((histories @ self.tails) @ self.reached).toarray()
        return scores

    def fill(self, block: slice, rows: NDArray[np.float32]) -> None:
        """Writes a range of the rows; float32 (rows, items)."""
        np.matmul(self.heads[block], self.directions, out=rows)
        gram = (self.tails[block] @ self.reached).tocoo()
        rows[gram.row, gram.col] += gram.data


def kernel(
    matrix: sparse.csr_matrix,
    weighted: sparse.csr_matrix,
    decomposition: Decomposition,
    config: SpectralConfig,
) -> Kernel:
    """The filtered spectrum, its tail a straight line that begins where the head ends.

    Args:
        matrix: users by items.
        weighted: Rn, the same by the config's a and b.
        decomposition: of weighted.
        config: t, tau, p and q.
    """
    degrees = column_sums(matrix)
    left, right = powers(degrees, -config.p), powers(degrees, config.q)
    first = decomposition.values[0] ** 2 if decomposition.rank else 1.0
    x = decomposition.values**2 / first
    f = x**config.t
    slope = 0.0 if decomposition.complete else config.tau * f[-1] / x[-1]
    vectors, ones = decomposition.vectors, np.ones(matrix.shape[0], np.float32)
    return Kernel(
        vectors * (f - slope * x).astype(np.float32) * left[:, None],
        np.ascontiguousarray((vectors * right[:, None]).T),
        scaled(weighted.T.tocsr(), left * np.float32(slope / first), ones),
        scaled(weighted, ones, right),
    )


def rank_of(config: SpectralConfig, n_items: int) -> int:
    """The rank that a setting means for a catalogue of that size."""
    if config.rank is not None:
        return config.rank
    return _SMALL_RANK if n_items <= SMALL_CATALOGUE else _RANK


def served(
    data: Interactions, kernel: Kernel, config: SpectralConfig, progress: Progress
) -> NeighbourMatrix:
    """A kernel as it is served: k entries a row."""
    rows = top_rows(data.n_items, config.k, kernel.fill, progress)
    return NeighbourMatrix.from_matrix(
        data.entity_nos, rows, binary=config.binary, half_life_days=config.half_life_days
    )


def fit(data: Interactions, config: SpectralConfig, progress: Progress) -> NeighbourMatrix:
    """Decomposes the weighted matrix, filters its spectrum and cuts the kernel's rows."""
    matrix = data.matrix(config.half_life_days, binary=config.binary)
    weighted = weigh(matrix, config.a, config.b)
    decomposition = decompose(weighted, rank_of(config, data.n_items), Phase(progress, 0, 0.4))
    filtered = kernel(matrix, weighted, decomposition, config)
    return served(data, filtered, config, Phase(progress, 0.4, 1))


def tune(
    train: Interactions, judge: Judge, seconds: float, progress: Progress
) -> Sequence[Trial[SpectralConfig]]:
    """One coordinate pass, judged uncut; the winner is then judged as it is served."""
    deadline = Deadline(_PASS_SHARE * seconds)
    start = SpectralConfig()
    start = start.model_copy(update={"rank": rank_of(start, train.n_items)})
    grids = dict(_GRIDS)
    if train.n_items <= SMALL_CATALOGUE:
        grids["rank"] = _SMALL_RANKS
    matrix = train.matrix(binary=start.binary)
    decompositions = Decompositions()

    def ticking(phase: str, share: float) -> None:
        progress(phase, _PASS_SHARE * deadline.spent)

    def filtered(config: SpectralConfig) -> Kernel:
        ticking("tuning", 0)
        weighted = weigh(matrix, config.a, config.b)
        wanted, largest = rank_of(config, train.n_items), int(grids["rank"][-1])
        found = decompositions.get((config.a, config.b), weighted, wanted, largest, ticking)
        return kernel(matrix, weighted, found, config)

    def score(config: SpectralConfig) -> float:
        whole = filtered(config)
        return judge(Uncut(train.entity_nos, lambda seen: whole.scores(seen.sign())))

    trials = climb(start, grids, score, deadline)
    begun = time.monotonic()
    config = winner(trials).config
    model = served(train, filtered(config), config, Phase(progress, _PASS_SHARE, 1))
    return as_served(trials, judge(model), time.monotonic() - begun)


def refuse(data: Interactions, config: SpectralConfig) -> str | None:
    """Says so where the vectors and the kept rows would not fit into memory."""
    width = rank_of(config, data.n_items) + OVERSAMPLING
    vectors = 4 * 3 * width * (data.n_items + data.n_users)
    kept = 2 * 8 * min(config.k, data.n_items) * data.n_items
    needed = vectors + kept
    if needed <= MAX_BYTES:
        return None
    return f"spectral would need about {needed >> 30} GB of memory, more than {MAX_BYTES >> 30} GB"


SPECTRAL = Algorithm(
    name="spectral",
    summary="Entities that belong together in the filtered spectrum of all interactions.",
    config=SpectralConfig,
    fit=fit,
    refuse=refuse,
    tune=tune,
)
