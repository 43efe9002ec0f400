"""Kernels in C: arrays must be contiguous and of the types that are named.

Scores, weights and sums are never NaN. A wrong type is a TypeError, a wrong length or order of an
array a ValueError, a place that does not exist an IndexError.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from storage.entities import Look
from storage.vector_store import EntityFacts

T = TypeVar("T")

class Sums:
    """Entities with the sums of what anchors add to them, as `engine/related.py` has them.

    Args:
        numbers: of each anchor int64 (n,), its neighbours.
        scores: of each anchor float32 (n,).
        weights: of the anchors; what one adds is its weight times the score.
        anchors: their numbers.
    """

    def __init__(
        self,
        numbers: list[NDArray[np.int64]],
        scores: list[NDArray[np.float32]],
        weights: list[float],
        anchors: list[int],
    ) -> None: ...
    def best(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The entities with the largest positive sums, and those: equal ones by number."""

    def because(self, wanted: NDArray[np.int64]) -> dict[int, list[int]]:
        """Of each wanted entity the (three) anchors that add most, equal ones by number."""

def blend(
    items: NDArray[np.intp],
    sources: NDArray[np.intp],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_items: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Totals (n_items,) and shares (n_items, n_sources) of `engine/blend.py:blend` by scores."""

def descending(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """The places of scores, the largest first, equal ones as they come."""

def unblocked(
    places: NDArray[np.intp],
    scores: NDArray[np.float64],
    limit: int,
    blocked: NDArray[np.intp],
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
    """The first of some places, with their scores, that are not blocked; None: too few.

    Args:
        blocked: places.
        mask: by place, all False, and so again in the end.
    """

def shown(
    numbers: NDArray[np.int64],
    scores: NDArray[np.float64],
    limit: int,
    known: dict[int, int],
    states: NDArray[np.uint8],
    blocked: NDArray[np.intp],
    mask: NDArray[np.bool_],
    blocked_numbers: Callable[[], Collection[int]],
    at_times: Mapping[int, EntityFacts],
    at: datetime,
) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
    """`engine/known_entities.py:KnownEntities.best`: places and scores.

    Args:
        known: places by number.
        states: by place.
        blocked, mask: as `unblocked` has them.
        at_times: by place.
    """

def places_of(known: dict[int, int], numbers: NDArray[np.int64]) -> NDArray[np.intp]:
    """Places by number, -1 for one that is not known."""

def union(
    places: list[NDArray[np.intp]],
    scores: list[NDArray[np.float64]],
    numbers: NDArray[np.int64],
    looks: list[Look],
    with_vectors: list[bool],
    vectors: dict[int, NDArray[np.float16]],
) -> tuple[
    NDArray[np.int64],
    list[Look],
    NDArray[np.intp],
    NDArray[np.intp],
    NDArray[np.float64],
    list[NDArray[np.float16] | None],
]:
    """`engine/known_entities.py:KnownEntities.union`.

    Args:
        places, scores: of each source.
        numbers, looks: by place.
        with_vectors: of each source.
        vectors: by number.
    """

def stacked(vectors: list[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Vectors (d,), at least one, as rows (n, d); those of float16 are the quickest."""

def offered(
    chosen: NDArray[np.intp],
    items: NDArray[np.intp],
    offered_by: NDArray[np.intp],
    source: int,
    vectors: list[NDArray[Any] | None],
) -> tuple[list[int], list[NDArray[Any]]]:
    """The rows of `chosen` that a source offers and that have a vector, and the vectors.

    Args:
        chosen: places in `vectors`, as `items` are.
    """

def put_nearest(
    near: NDArray[np.float32],
    anchors: list[int],
    into: NDArray[np.int32],
    rows: list[int],
    column: int,
) -> None:
    """Puts the anchors of the (three) largest of each row that are above zero; -1 for none.

    Args:
        near: (n, number of anchors).
        into: (rows, columns, at least 3).
        rows: (n,), of `into`.
    """

def put(
    into: NDArray[np.int32], column: int, led: Sequence[Sequence[T]], place: dict[T, int]
) -> None:
    """Puts the places of what led to each row, -1 for what has none.

    Args:
        into: (rows, columns, at least as many as led to any).
        led: by row.
    """

def reasons(
    shares: NDArray[np.float64],
    chosen: NDArray[np.intp],
    items: NDArray[np.intp],
    offered_by: NDArray[np.intp],
    led: NDArray[np.int32],
) -> tuple[
    NDArray[np.uint8],
    NDArray[np.uint8],
    NDArray[np.float64],
    NDArray[np.uint8],
    NDArray[np.uint16],
]:
    """`reasons`, `origins`, `shares`, `leads` and `because` of `ItemColumns`.

    Args:
        shares: (candidates, sources).
        chosen: (n,), places of candidates.
        items: ascending.
        led: (n, sources, at least 1), places of names; negative: nobody.
    """

def spans(
    reasons: NDArray[np.uint8],
    leads: NDArray[np.uint8],
    told: NDArray[np.uint8],
    start: int,
    end: int,
) -> tuple[slice, slice, slice]:
    """Where reasons, what they name, and scores of the items from start to end stand."""

def packed(
    numbers: NDArray[np.int64],
    origins: NDArray[np.uint8],
    shares: NDArray[np.float64],
    because: NDArray[np.uint16],
    names: int,
) -> tuple[list[int], bytes, bytes, bytes, bytes]:
    """`engine/item_columns.py:ItemColumns.pack`: see there; of little-endian machines."""

def top(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
    exclude: NDArray[np.int32],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], list[tuple[int, ...]]]:
    """The k largest positive sums of weighed rows of a CSR matrix (n, n), equal ones by place.

    Args:
        rows, weights: (h,), the rows that are summed, and what each counts.
        exclude: places that are left out.

    Returns:
        Places, sums, and of each place those in `rows` with the largest positive parts, at most
        three, equal ones as they come.
    """
