"""Many small ridge regressions out of one sparse gram, as loops that numba compiles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def local_ridge(  # noqa: PLR0912 - one function, so that compiling it compiles everything
    start: int,
    end: int,
    near_starts: NDArray[Any],
    near: NDArray[Any],
    gram_starts: NDArray[Any],
    gram_columns: NDArray[Any],
    gram: NDArray[np.float32],
    ridge: NDArray[np.float64],
    solved: NDArray[np.float32],
) -> None:
    """Solves (G_SS + diag(ridge_S)) w = G_Sj of the targets j from start to end.

    Plain loops over plain arrays: it gives the same numbers uncompiled.

    Args:
        start: first target.
        end: behind the last one.
        near_starts: of each target where its S begins in near, (n + 1,).
        near: the members of each S, ascending, the target not among them.
        gram_starts: CSR of the symmetric gram, (n + 1,).
        gram_columns: ascending within a row.
        gram: float32 values.
        ridge: (n,), what is added to each diagonal entry; above zero.
        solved: written, in the order of near.
    """
    widest = 0
    for target in range(start, end):
        widest = max(widest, near_starts[target + 1] - near_starts[target])
    system = np.zeros((widest, widest), np.float32)
    wanted = np.zeros(widest, np.float32)
    for target in range(start, end):
        first = near_starts[target]
        m = near_starts[target + 1] - first
        # The lower triangle, with the right side looked up as one more row.
        for x in range(m + 1):
            row = near[first + x] if x < m else target
            low, last = gram_starts[row], gram_starts[row + 1]
            for y in range(min(x + 1, m)):
                column = near[first + y]
                high = last
                while low < high:
                    middle = (low + high) // 2
                    if gram_columns[middle] < column:
                        low = middle + 1
                    else:
                        high = middle
                value = np.float32(0)
                if low < last and gram_columns[low] == column:
                    value = gram[low]
                if x < m:
                    system[x, y] = value
                else:
                    wanted[y] = value
            if x < m:
                system[x, x] += ridge[row]
        # Cholesky, then both substitutions in place.
        for x in range(m):
            for y in range(x + 1):
                total = system[x, y]
                for z in range(y):
                    total -= system[x, z] * system[y, z]
                if x == y:
                    system[x, x] = np.sqrt(total)
                else:
                    system[x, y] = total / system[y, y]
            total = wanted[x]
            for z in range(x):
                total -= system[x, z] * wanted[z]
            wanted[x] = total / system[x, x]
        for x in range(m - 1, -1, -1):
            wanted[x] /= system[x, x]
            for z in range(x):
                wanted[z] -= system[x, z] * wanted[x]
            solved[first + x] = wanted[x]
