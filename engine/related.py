"""Item to item: the neighbours of what a user met, weighed and summed."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.models.forms.base import MAX_BECAUSE
from engine.sources import Anchor
from storage.users import NeighbourRows
from storage.vector_store import Related


def relate(anchors: Sequence[Anchor], rows: NeighbourRows, limit: int) -> Related:
    """The entities with the largest positive sums of weight times score, equal ones by number.

    Args:
        anchors: whose neighbours count.
        rows: the neighbours that are known, of these anchors and perhaps of others.
        limit: the most entities.
    """
    ends = np.cumsum(rows.lengths, dtype=np.int64).tolist()
    spans = {
        number: slice(end - length, end)
        for number, length, end in zip(rows.entity_nos, rows.lengths, ends, strict=True)
        if length
    }
    used = [a for a in anchors if a.entity_no in spans]
    if not used:
        return Related((), (), {})
    lengths = [spans[a.entity_no].stop - spans[a.entity_no].start for a in used]
    weights = np.repeat(np.array([a.weight for a in used], np.float64), lengths)
    parts = weights * np.concatenate([rows.scores[spans[a.entity_no]] for a in used])
    numbers, place = np.unique(
        np.concatenate([rows.numbers[spans[a.entity_no]] for a in used]), return_inverse=True
    )
    sums = np.bincount(place, parts)
    # Numbers ascend, and the sort is stable: equal sums come by number.
    best = np.argsort(-sums, kind="stable")[:limit]
    best = best[sums[best] > 0]
    led = np.repeat(np.array([a.entity_no for a in used], np.int64), lengths)
    return Related(
        numbers[best].tolist(), sums[best].tolist(), _because(numbers, best, place, parts, led)
    )


def _because(
    numbers: NDArray[np.int64],
    best: NDArray[np.intp],
    place: NDArray[np.intp],
    parts: NDArray[np.float64],
    led: NDArray[np.int64],
) -> "_Led":
    """Of each of the best the anchors with the largest parts, equal ones by number."""
    wanted = np.zeros(len(numbers), np.bool_)
    wanted[best] = True
    rows = np.flatnonzero(wanted[place])
    rows = rows[np.lexsort((led[rows], -parts[rows], place[rows]))]
    of = place[rows]
    return _Led(numbers[of], led[rows])


class _Led(Mapping[int, Sequence[int]]):
    """Who led to an entity, looked up when it is asked for: most are not.

    Args:
        numbers: int64 entities, ascending, each as often as somebody led to it.
        led: int64, who.
    """

    def __init__(self, numbers: NDArray[np.int64], led: NDArray[np.int64]) -> None:
        self._numbers: list[int] = numbers.tolist()
        self._led: list[int] = led.tolist()

    def __getitem__(self, number: int) -> Sequence[int]:
        start = bisect_left(self._numbers, number)
        end = bisect_right(self._numbers, number, start)
        if start == end:
            raise KeyError(number)
        return self._led[start : min(end, start + MAX_BECAUSE)]

    def __iter__(self) -> Iterator[int]:
        return iter(dict.fromkeys(self._numbers))

    def __len__(self) -> int:
        return len(set(self._numbers))
