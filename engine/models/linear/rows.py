"""An item-item matrix made block by block, of which each row keeps its K largest entries."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.models.base import Progress

_BLOCK_ENTRIES = 41_000_000
_BLOCK_ROWS = 1000


def top_rows(
    n: int, k: int, fill: Callable[[slice, NDArray[np.float32]], None], progress: Progress
) -> sparse.csr_matrix:
    """The k entries of each row largest by absolute value, with their signs.

    Args:
        n: rows and columns of the whole, at least 1.
        k: entries kept a row; equal ones at the cut by column.
        fill: writes the dense rows of a range into an array, float32 (rows, n).
        progress: told after every block of about 1,000 rows.

    Returns:
        float32 CSR (n, n), the diagonal and zeros left out, columns ascending.
    """
    size = max(1, min(_BLOCK_ROWS, _BLOCK_ENTRIES // max(n, 1), n))
    # The large arrays are made once: fresh pages for every block took longer than the arithmetic.
    dense, sizes = np.empty((size, n), np.float32), np.empty((size, n), np.float32)
    columns: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    lengths: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    for start in range(0, n, size):
        block = slice(start, min(start + size, n))
        rows = dense[: block.stop - start]
        fill(block, rows)
        rows[np.arange(len(rows)), np.arange(start, block.stop)] = 0
        places, counts = _largest(rows, sizes[: len(rows)], k)
        values.append(rows.ravel()[places])
        columns.append((places % n).astype(np.int32))
        lengths.append(counts)
        progress("keeping neighbours", block.stop / n)
    indptr = np.cumsum(np.concatenate(lengths))
    arrays = (np.concatenate(values), np.concatenate(columns), indptr)
    return sparse.csr_matrix(arrays, shape=(n, n))


def _largest(
    rows: NDArray[np.float32], sizes: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Flat places of the k entries of each row largest by absolute value, and counts by row."""
    n = rows.shape[1]
    np.abs(rows, out=sizes)
    if k < n:
        # Values alone partition several times faster than places do.
        sizes.partition(n - k, axis=1)
        edge = np.maximum(sizes[:, n - k], np.finfo(np.float32).tiny)[:, None]
        np.abs(rows, out=sizes)
    else:
        edge = np.full((len(rows), 1), np.finfo(np.float32).tiny, np.float32)
    kept = sizes >= edge
    counts = np.count_nonzero(kept, axis=1)
    for row in np.flatnonzero(counts > k):
        ties = np.flatnonzero(sizes[row] == edge[row])
        kept[row, ties[len(ties) - (counts[row] - k) :]] = False
    return np.flatnonzero(kept), np.minimum(counts, k)
