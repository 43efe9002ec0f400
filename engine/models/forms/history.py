"""What the forms share: how a live history is weighed, and which of its entities are named."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.models.forms.base import MAX_BECAUSE, History


def live_weights(
    history: History,
    *,
    binary: bool = False,
    half_life_days: float | None = None,
    last: int | None = None,
) -> NDArray[np.float32]:
    """The history's weights as a model wants them, float32 (h,), an array of the caller's own.

    Args:
        binary: the sign alone.
        half_life_days: an entity that much older counts half; None: age does not matter.
        last: only so many of the newest entities count; None: all.
    """
    weights = np.sign(history.weights) if binary else history.weights
    weights = weights.astype(np.float32)
    if half_life_days is not None:
        weights *= np.exp2(-history.ages / np.float32(half_life_days))
    if last is not None:
        weights[last:] = 0
    return weights


def rows_of(histories: sparse.csr_matrix, *, binary: bool = False) -> sparse.csr_matrix:
    """Histories for evaluation, float32 CSR without stored zeros; signs alone where binary."""
    rows = histories.astype(np.float32)
    rows.eliminate_zeros()
    if binary:
        rows.data = np.sign(rows.data)
    return rows


def strongest(shares: NDArray[np.float32]) -> NDArray[np.intp]:
    """Of each row the columns of its largest values, largest first, equal ones by column.

    Args:
        shares: (items, h), finite; an array of the caller's own, which is as it was afterwards.

    Returns:
        (items, c): c is three, or h where that is less.
    """
    rows = np.arange(len(shares))
    columns = np.empty((len(shares), min(MAX_BECAUSE, shares.shape[1])), np.intp)
    values = np.empty(columns.shape, shares.dtype)
    # Three searches: a sort of all columns takes longer and four times the memory of the shares.
    for rank in range(columns.shape[1]):
        at = shares.argmax(axis=1)
        columns[:, rank], values[:, rank] = at, shares[rows, at]
        shares[rows, at] = -np.inf
    shares[rows[:, None], columns] = values
    return columns


def leading(shares: NDArray[np.float32], places: NDArray[np.intp]) -> list[tuple[int, ...]]:
    """Of each item the places with the largest positive shares, largest first, at most three.

    Args:
        shares: (items, h), what each place of the history has to do with each item; an array of
            the caller's own, which is as it was afterwards.
        places: (h,), ascending, which place of the history each column stands for.
    """
    order = strongest(shares)
    return named(np.take_along_axis(shares, order, axis=1), places[order])


def named(shares: NDArray[np.float32], places: NDArray[np.intp]) -> list[tuple[int, ...]]:
    """Each row's places as far as their shares are positive; both (items, c), largest first."""
    counts = (shares > 0).sum(axis=1)
    return [tuple(row[:n]) for row, n in zip(places.tolist(), counts.tolist(), strict=True)]


def wanted(arrays: Mapping[str, NDArray[Any]], *names: str) -> list[NDArray[Any]]:
    """The arrays of those names.

    Raises:
        ValueError: one is missing.
    """
    for name in names:
        if name not in arrays:
            raise ValueError(f"array {name} is missing")
    return [arrays[name] for name in names]
