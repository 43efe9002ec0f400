"""The inverse of a symmetric positive definite matrix in its own memory, in steps."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from engine.models.base import Progress

_BLOCK = 512
_SLAB = 2048


def invert(matrix: NDArray[np.float64], progress: Progress, block: int = _BLOCK) -> None:
    """Writes the inverse over a symmetric positive definite matrix, float64 (n, n).

    The sweep operator a block at a time (Goodnight, "A tutorial on the SWEEP operator", The
    American Statistician 1979): n^3 operations as Cholesky needs, but it can be stopped between
    the blocks and takes no second matrix.

    Raises:
        LinAlgError: the matrix is not positive definite.
    """
    n = len(matrix)
    for start in range(0, n, block):
        end = min(start + block, n)
        pivot = linalg.inv(linalg.cholesky(matrix[start:end, start:end], lower=True))
        pivot = pivot.T @ pivot
        # Only the lower triangle is kept up to date.
        column = np.concatenate(
            [matrix[start:end, :start].T, np.zeros((end - start,) * 2), matrix[end:, start:end]]
        )
        swept = column @ pivot
        for top in range(0, n, _SLAB):
            bottom = min(top + _SLAB, n)
            matrix[top:bottom, :bottom] -= swept[top:bottom] @ column[:bottom].T
            progress("inverting", (start + (end - start) * bottom / n) / n)
        matrix[start:end, :start] = swept[:start].T
        matrix[end:, start:end] = swept[end:]
        matrix[start:end, start:end] = -pivot
    for top in range(0, n, _SLAB):
        bottom = min(top + _SLAB, n)
        rows = matrix[top:bottom]
        rows[:, :bottom] *= -1
        corner = np.tril(rows[:, top:bottom])
        rows[:, top:bottom] = corner + np.tril(corner, -1).T
        matrix[:top, top:bottom] = rows[:, :top].T
