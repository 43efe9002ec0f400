"""The leading right singular vectors of a sparse matrix: exact where it is small, else randomised.

Halko, Martinsson, Tropp: "Finding structure with randomness", SIAM Review 2011 (block power
iteration with orthonormalisation between the rounds).
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from engine.models.base import Progress
from engine.models.progress import Phase

EXACT_SIDE = 4000
ROUNDS = 3
OVERSAMPLING = 64
# Eigenvalues below this share of the first are noise of float32.
_RANK_SHARE = 1e-6
_PRODUCT_WORK = 1 << 29


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Leading singular values and right singular vectors.

    Attributes:
        values: float64 (r,), falling, positive.
        vectors: float32 (columns, r).
        complete: nothing is left beyond them.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float32]
    complete: bool

    @property
    def rank(self) -> int:
        """How many there are."""
        return len(self.values)

    def cut(self, rank: int) -> "Decomposition":
        """The first ones alone."""
        if rank >= self.rank:
            return self
        return Decomposition(self.values[:rank], self.vectors[:, :rank], complete=False)


def is_exact(shape: tuple[int, ...]) -> bool:
    """Whether a matrix of that shape is decomposed exactly, at a cost that no rank changes."""
    return min(shape) <= EXACT_SIDE


def decompose(
    matrix: sparse.csr_matrix, rank: int, progress: Progress, seed: int = 0
) -> Decomposition:
    """The first `rank` singular values and right vectors; fewer where the matrix has fewer.

    Args:
        matrix: float32 CSR (users, items).
        rank: at least 1.
        progress: told several times.
        seed: of the random start.
    """
    progress("factorising", 0.0)
    exact = is_exact(matrix.shape)
    if exact:
        values, vectors = _exact(matrix, rank)
    else:
        values, vectors = _randomised(matrix, rank, progress, seed)
    progress("factorising", 1.0)
    found = int(np.count_nonzero(values**2 > _RANK_SHARE * values[0] ** 2)) if len(values) else 0
    kept = min(rank, found)
    complete = kept == found and (exact or found < len(values) or found == min(matrix.shape))
    return Decomposition(values[:kept], np.ascontiguousarray(vectors[:, :kept]), complete)


def _exact(matrix: sparse.csr_matrix, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """All values and the first vectors, by the eigenvectors of the smaller gram matrix."""
    by_items = matrix.shape[1] <= matrix.shape[0]
    wide = matrix.astype(np.float64)
    gram = (wide.T @ wide if by_items else wide @ wide.T).toarray()
    eigenvalues, vectors = np.linalg.eigh(gram)
    values = np.sqrt(np.maximum(eigenvalues[::-1], 0))
    vectors = vectors[:, ::-1][:, :rank]
    if not by_items:
        lengths = np.where(values > 0, values, 1)[: vectors.shape[1]]
        vectors = wide.T @ (vectors / lengths)
    return values, vectors.astype(np.float32)


def _randomised(
    matrix: sparse.csr_matrix, rank: int, progress: Progress, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    transposed = matrix.T.tocsr()
    width = min(rank + OVERSAMPLING, *matrix.shape)
    basis = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), np.float32)
    for turn in range(ROUNDS):
        part = Phase(progress, turn / (ROUNDS + 1), (turn + 1) / (ROUNDS + 1))
        image = _product(matrix, basis, Phase(part, 0, 0.4))
        basis = _orthonormal(_product(transposed, image, Phase(part, 0.4, 0.8)))
    # Once more: a basis of float32 is not quite orthonormal after one pass.
    basis = _orthonormal(basis)
    image = _product(matrix, basis, Phase(progress, ROUNDS / (ROUNDS + 1), 1))
    eigenvalues, turned = np.linalg.eigh((image.T @ image).astype(np.float64))
    values = np.sqrt(np.maximum(eigenvalues[::-1][:rank], 0))
    return values, basis @ turned[:, ::-1][:, :rank].astype(np.float32)


def _product(
    matrix: sparse.csr_matrix, dense: NDArray[np.float32], progress: Progress
) -> NDArray[np.float32]:
    """Sparse by dense in slabs of rows, so that a large one can be cancelled."""
    rows, columns = matrix.shape[0], dense.shape[1]
    product = np.empty((rows, columns), np.float32)
    slabs = max(1, min(rows, matrix.nnz * columns // _PRODUCT_WORK))
    for number, slab in enumerate(np.array_split(np.arange(rows), slabs), 1):
        start, end = int(slab[0]), int(slab[-1]) + 1
        product[start:end] = matrix[start:end] @ dense
        progress("factorising", number / slabs)
    return product


def _orthonormal(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """An orthonormal basis of tall columns, by Cholesky: a fraction of Householder's time."""
    try:
        upper = np.linalg.cholesky((matrix.T @ matrix).astype(np.float64)).T
        inverse = linalg.solve_triangular(upper, np.eye(len(upper)), check_finite=False)
    except np.linalg.LinAlgError:
        return np.linalg.qr(matrix)[0]
    return matrix @ inverse.astype(np.float32)


class Decompositions:
    """The last few decompositions of one tuning; a larger rank serves a smaller one.

    Args:
        room: how many are kept.
    """

    def __init__(self, room: int = 3) -> None:
        self._room = room
        self._kept: OrderedDict[tuple[float, float], Decomposition] = OrderedDict()

    def get(
        self,
        key: tuple[float, float],
        matrix: sparse.csr_matrix,
        rank: int,
        largest: int,
        progress: Progress,
    ) -> Decomposition:
        """A decomposition of the matrix that the key (a, b) names.

        Args:
            key: exponents of the weights.
            matrix: float32 CSR (users, items).
            rank: wanted now.
            largest: computed where one will do for all: when exact, or when a smaller one is there.
            progress: told while one is computed.
        """
        known = self._kept.pop(key, None)
        if known is None or (known.rank < rank and not known.complete):
            whole = known is not None or is_exact(matrix.shape)
            known = decompose(matrix, max(rank, largest) if whole else rank, progress)
        self._kept[key] = known
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        return known.cut(rank)
