"""Which entities of the history or the context led the sources to their candidates."""

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import native
from engine.candidates import Candidates
from engine.models.forms.base import MAX_BECAUSE
from engine.sources import BY_NAME, ITEM_TO_ITEM, MODEL, Inputs
from storage.entities import EntityKey

Because: TypeAlias = tuple[EntityKey, ...]
"""The (type, id) of the entities that led a source to a candidate, strongest first."""

T = TypeVar("T")

_NOBODY = -1


class Causes:
    """Who led to each candidate: by cosine, as storage says, or as the model does.

    Args:
        chosen: intp (n,), the candidates that are looked at.
        found: by source that chooses by cosine what it had chosen for each of all candidates;
            chosen anew where absent.

    Attributes:
        names: what the places stand for.
        places: int32 (n, sources, at least 3), strongest first, -1 for nobody, also
            between others. What it holds of a source that does not offer a candidate means nothing.
    """

    def __init__(
        self,
        candidates: Candidates,
        chosen: NDArray[np.intp],
        inputs: Inputs,
        found: Mapping[str, Sequence[Because]],
    ) -> None:
        self._candidates = candidates
        self._chosen = chosen
        self._anchors = inputs.anchors
        self._first: int | None = None
        self.names: list[EntityKey] = []
        self.places = np.full(
            (len(chosen), len(candidates.sources), MAX_BECAUSE), _NOBODY, np.int32
        )
        for column, name in enumerate(candidates.sources):
            if name == MODEL.name:
                numbers = candidates.numbers[chosen].tolist()
                self._put_named(column, [inputs.because.get(number, ()) for number in numbers])
            elif name == ITEM_TO_ITEM.name:
                self._put_numbered(column)
            elif name in found:
                self._put_named(column, [found[name][place] for place in chosen.tolist()])
            elif BY_NAME[name].reasons is not None:
                self._put_nearest(column, name)

    def _put_named(self, column: int, led: Sequence[Because]) -> None:
        """Those that a source names; they need not be among the anchors."""
        flat = list(chain.from_iterable(led))
        place = {key: place for place, key in enumerate(dict.fromkeys(flat), len(self.names))}
        self.names += place
        self._put(column, led, place)

    def _put_numbered(self, column: int) -> None:
        """Those that storage names by number, where they are anchors."""
        first = self._of_anchors()
        place = {anchor.entity_no: place for place, anchor in enumerate(self._anchors, first)}
        known = self._candidates.led
        numbers = self._candidates.numbers[self._chosen].tolist()
        led = list(map(known.get, numbers, repeat(())))
        self._put(column, led, place)

    def _put(self, column: int, led: Sequence[Sequence[T]], place: dict[T, int]) -> None:
        """Of each candidate the places of those that led to it."""
        lengths = np.fromiter(map(len, led), np.intp, len(led))
        if not lengths.any():
            return
        missing = int(lengths.max()) - self.places.shape[2]
        if missing > 0:
            wider = ((0, 0), (0, 0), (0, missing))
            self.places = np.pad(self.places, wider, constant_values=_NOBODY)
        if native.compiled:
            native.kernels.put(self.places, column, list(led), place)
            return
        places = [place.get(key, _NOBODY) for key in chain.from_iterable(led)]
        first = np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(np.arange(len(led)), lengths)
        self.places[rows, column, np.arange(len(places)) - first] = places

    def _put_nearest(self, column: int, name: str) -> None:
        """Up to three anchors that point a candidate's way."""
        leads = BY_NAME[name].reasons
        assert leads is not None
        of = [i for i, a in enumerate(self._anchors) if a.vector is not None and leads(a)]
        rows, near = self._offered(column)
        if not of or not rows:
            return
        vectors = stacked(near)
        directions = stacked([v for i in of if (v := self._anchors[i].vector) is not None])
        if vectors.shape[1] != directions.shape[1]:
            return
        # A vector's own length changes neither the order nor the sign.
        cosines = vectors @ directions.T
        first = self._of_anchors()
        anchors = [first + place for place in of]
        if native.compiled:
            native.kernels.put_nearest(cosines, anchors, self.places, rows, column)
        else:
            nearest = _nearest(cosines)
            self.places[rows, column, : nearest.shape[1]] = np.array([*anchors, _NOBODY])[nearest]

    def _offered(self, column: int) -> tuple[list[int], list[NDArray[np.float16]]]:
        """The rows of the candidates that a source offers and that have a vector, and those."""
        candidates = self._candidates
        if native.compiled:
            return native.kernels.offered(
                self._chosen, candidates.items, candidates.offered_by, column,
                list(candidates.vectors),
            )  # fmt: skip
        offered = np.zeros(len(candidates), np.bool_)
        offered[candidates.items[candidates.offered_by == column]] = True
        rows, near = [], []
        for row in np.flatnonzero(offered[self._chosen]).tolist():
            vector = candidates.vectors[self._chosen[row]]
            if vector is not None:
                rows.append(row)
                near.append(vector)
        return rows, near

    def _of_anchors(self) -> int:
        """The place of the first anchor's name; the others follow. A model needs none of them."""
        if self._first is None:
            self._first = len(self.names)
            self.names += [(a.entity_type, a.entity_id) for a in self._anchors]
        return self._first


def stacked(vectors: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Vectors (d,), at least one, as rows, float32 (n, d)."""
    if native.compiled:
        return native.kernels.stacked(list(vectors))
    return np.array(vectors, np.float32)


def _nearest(near: NDArray[np.float32]) -> NDArray[np.intp]:
    """The places of the three largest of each row that are above zero; -1 for none."""
    rows = np.arange(len(near))
    best = np.full((len(near), min(MAX_BECAUSE, near.shape[1])), _NOBODY, np.intp)
    for place in range(best.shape[1]):  # three times the largest, which is less than to sort all
        found = near.argmax(axis=1)
        best[:, place] = np.where(near[rows, found] > 0, found, _NOBODY)
        near[rows, found] = -np.inf
    return best
