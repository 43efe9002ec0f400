"""The serving form of every linear item-item model: each entity's top neighbours.

A user's scores are the weighted sum of the rows of their history (Deshpande and Karypis,
"Item-based top-N recommendation algorithms", TOIS 2004), so they follow the history as it is now.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine import native
from engine.models.forms.base import History, Scored, best
from engine.models.forms.history import live_weights, named, strongest, wanted

_ROWS_AT_ONCE = 64
"""Rows of a history that are gathered together.

What a call needs beside the matrix stays small however long the history is: an allocator keeps
much of what it got back (glibc up to twice the largest array), and it does so in every worker.
"""


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of neighbours times the history's weights.

    Attributes:
        places: (b,), of the history.
        lengths: (b,), how many entries each has, one after the other.
        columns: int32 (entries,).
        parts: float32 (entries,).
    """

    places: NDArray[np.intp]
    lengths: NDArray[np.int64]
    columns: NDArray[np.int32]
    parts: NDArray[np.float32]


class NeighbourMatrix:
    """Rows of neighbours in CSR: row i holds what having i in the history says of other entities.

    Args:
        entity_nos: int64 (n,), ascending.
        indptr: int64 (n + 1,).
        indices: int32 (nnz,), columns, ascending within a row.
        data: float32 (nnz,), signed.
        binary: whether every positive weight of the history counts 1.
        half_life_days: an entity that much older counts half; None: age does not matter.
        last: only so many of the newest entities count; None: all.
    """

    form: ClassVar[str] = "neighbours"

    def __init__(
        self,
        entity_nos: NDArray[np.int64],
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        data: NDArray[np.float32],
        *,
        binary: bool = False,
        half_life_days: float | None = None,
        last: int | None = None,
    ) -> None:
        self.entity_nos = entity_nos
        self.indptr = indptr
        self.indices = indices
        self.data = data
        self.binary = binary
        self.half_life_days = half_life_days
        self.last = last
        arrays = (indptr, indices, data)
        # What lies in a file lies there as it does.
        self._compiles = native.compiled and all(
            a.flags.c_contiguous and a.flags.aligned and a.dtype.isnative for a in arrays
        )

    @classmethod
    def from_matrix(
        cls, entity_nos: NDArray[np.int64], matrix: sparse.csr_matrix, **settings: Any
    ) -> Self:
        """From a CSR matrix (n, n) whose rows are the neighbours; settings as in the class."""
        matrix.sort_indices()
        return cls(
            entity_nos,
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            matrix.data.astype(np.float32),
            **settings,
        )

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """See ServingModel."""
        weights = live_weights(
            history, binary=self.binary, half_life_days=self.half_life_days, last=self.last
        )
        used = np.flatnonzero(weights)
        if not len(used):
            return Scored(np.empty(0, np.int32), np.empty(0, np.float32), ())
        if self._compiles:
            return self._top(history.items[used], weights[used], used, k, exclude)
        scores = np.zeros(len(self.entity_nos), np.float32)
        cut = [used[start : start + _ROWS_AT_ONCE] for start in range(0, len(used), _ROWS_AT_ONCE)]
        for own in cut:
            block = self._block(history, weights, own)
            np.add.at(scores, block.columns, block.parts)
        scores[exclude] = 0
        places = np.flatnonzero(scores > 0).astype(np.int32)
        chosen = scores[places]
        order = best(chosen, places, k)
        items = places[order]
        # The last one is at hand; those before it are gathered again instead of kept.
        blocks = (block if own is cut[-1] else self._block(history, weights, own) for own in cut)
        return Scored(items, chosen[order], self._because(items, blocks))

    def _top(
        self,
        rows: NDArray[np.int32],
        weights: NDArray[np.float32],
        used: NDArray[np.intp],
        k: int,
        exclude: NDArray[np.int32],
    ) -> Scored:
        """The same as `top` from here on, compiled."""
        items, scores, led = native.kernels.top(
            self.indptr, self.indices, self.data, rows, weights, exclude, k
        )
        places = used.tolist()
        if places[-1] >= len(places):  # not all of the history counts
            led = [tuple([places[row] for row in those]) for those in led]
        return Scored(items, scores, led)

    def _block(
        self, history: History, weights: NDArray[np.float32], places: NDArray[np.intp]
    ) -> _Block:
        """What some places of a history add to which entities."""
        rows = history.items[places]
        starts, ends = self.indptr[rows], self.indptr[rows + 1]
        spans = [slice(s, e) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
        columns = np.concatenate([self.indices[span] for span in spans])
        parts = np.concatenate([self.data[span] for span in spans])
        parts *= np.repeat(weights[places], ends - starts)
        return _Block(places, ends - starts, columns, parts)

    def _because(self, items: NDArray[np.int32], blocks: Iterable[_Block]) -> list[tuple[int, ...]]:
        """Of each item the places in the history with the largest share of its score."""
        rank = np.full(len(self.entity_nos), -1, np.int32)
        rank[items] = np.arange(len(items), dtype=np.int32)
        near, places = [], []
        for block in blocks:
            of = rank[block.columns]
            kept = np.flatnonzero(of >= 0)
            row = np.repeat(np.arange(len(block.places)), block.lengths)[kept]
            shares = np.zeros((len(items), len(block.places)), np.float32)
            shares[of[kept], row] = block.parts[kept]
            order = strongest(shares)
            near.append(np.take_along_axis(shares, order, axis=1))
            places.append(block.places[order])
        if len(near) == 1:
            return named(near[0], places[0])
        shares = np.concatenate(near, axis=1)
        order = strongest(shares)
        return named(
            np.take_along_axis(shares, order, axis=1),
            np.take_along_axis(np.concatenate(places, axis=1), order, axis=1),
        )

    def matrix(self) -> sparse.csr_matrix:
        """The rows as a CSR matrix (n, n) over the same memory, which is not to be written to."""
        n = len(self.entity_nos)
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(n, n), copy=False)

    def with_rows(
        self, entity_nos: NDArray[np.int64], places: NDArray[np.int32], rows: sparse.csr_matrix
    ) -> Self:
        """This matrix over the entities of today, some of its rows made anew.

        Args:
            entity_nos: int64 (n,), ascending; entities that are not among them are dropped.
            places: int32 (m,), ascending, places in `entity_nos` of the new rows.
            rows: CSR (m, n).
        """
        n = len(entity_nos)
        at = np.searchsorted(entity_nos, self.entity_nos)
        at[at == n] = 0
        known = entity_nos[at] == self.entity_nos if n else np.zeros(len(at), np.bool_)
        kept = known & ~np.isin(at, places)
        owners = np.repeat(np.arange(len(at)), np.diff(self.indptr))
        stays = kept[owners] & known[self.indices]
        new = rows.tocoo()
        merged = sparse.csr_matrix(
            (
                np.concatenate([self.data[stays], new.data]).astype(np.float32),
                (
                    np.concatenate([at[owners[stays]], places[new.row]]),
                    np.concatenate([at[self.indices[stays]], new.col]),
                ),
            ),
            shape=(n, n),
        )
        return type(self).from_matrix(entity_nos, merged, **self.settings())

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """See ServingModel."""
        rows = self.matrix()
        left = histories
        if self.binary:
            left = left.sign()
        product: NDArray[np.float32] = (left @ rows).toarray().astype(np.float32, copy=False)
        return product

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See ServingModel."""
        return {
            "entity_nos": self.entity_nos,
            "indptr": self.indptr,
            "indices": self.indices,
            "data": self.data,
        }

    def settings(self) -> dict[str, Any]:
        """See ServingModel."""
        return {"binary": self.binary, "half_life_days": self.half_life_days, "last": self.last}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """See ServingModel."""
        model = cls(*wanted(arrays, "entity_nos", "indptr", "indices", "data"), **settings)
        n, kept = len(model.entity_nos), len(model.data)
        if len(model.indptr) != n + 1 or model.indptr[0] != 0 or model.indptr[-1] != kept:
            raise ValueError("indptr does not fit")
        if len(model.indices) != kept or np.any(np.diff(model.indptr) < 0):
            raise ValueError("indices do not fit")
        if kept and not (model.indices.min() >= 0 and model.indices.max() < n):
            raise ValueError("indices lie outside the catalogue")
        return model


def keep_top(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Of each row the k entries largest by absolute value, with their signs; columns ascending."""
    lengths = np.diff(matrix.indptr)
    if not len(lengths) or lengths.max() <= k:
        return matrix
    kept = np.ones(matrix.nnz, np.bool_)
    for row in np.flatnonzero(lengths > k):
        start, end = matrix.indptr[row], matrix.indptr[row + 1]
        drop = np.argpartition(np.abs(matrix.data[start:end]), end - start - k)[: end - start - k]
        kept[start + drop] = False
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, k))])
    return sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)
