"""Degree weights of an interaction matrix: Du^-a R Di^-b."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def powers(degrees: NDArray[np.float64], exponent: float) -> NDArray[np.float32]:
    """Each degree to a power, 0 where the degree is 0; float32 (n,)."""
    raised = np.zeros(len(degrees), np.float32)
    positive = degrees > 0
    raised[positive] = degrees[positive] ** exponent
    return raised


def column_sums(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """Item degrees of users by items; float64 (items,)."""
    return np.bincount(matrix.indices, matrix.data, minlength=matrix.shape[1]).astype(np.float64)


def weigh(matrix: sparse.csr_matrix, a: float, b: float) -> sparse.csr_matrix:
    """Du^-a R Di^-b of users by items, float32 CSR; degrees are the sums of rows and columns."""
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    user_degrees = np.bincount(users, matrix.data, matrix.shape[0]).astype(np.float64)
    data = (
        matrix.data
        * powers(user_degrees, -a)[users]
        * powers(column_sums(matrix), -b)[matrix.indices]
    )
    return sparse.csr_matrix(
        (data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape
    )


def scaled(
    matrix: sparse.csr_matrix,
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
) -> sparse.csr_matrix:
    """diag(rows) matrix diag(columns), float32 CSR without explicit zeros."""
    places = np.repeat(rows, np.diff(matrix.indptr))
    data = matrix.data * places * columns[matrix.indices]
    product = sparse.csr_matrix(
        (data.astype(np.float32), matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape
    )
    product.eliminate_zeros()
    return product
