"""Item to item: the neighbours of what a user met, weighed and summed."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine import native
from engine.models.forms.base import MAX_BECAUSE
from engine.sources import Anchor
from storage.situations import Neighbours
from storage.vector_store import NOTHING, Ranked, Related


def relate(anchors: Sequence[Anchor], neighbours: Mapping[int, Neighbours], limit: int) -> Related:
    """The entities with the largest positive sums of weight times score, equal ones by number.

    Args:
        anchors: whose neighbours count.
        neighbours: those that are known, by number, of these anchors and perhaps of others.
        limit: the most entities.
    """
    used = [
        (anchor, known)
        for anchor in anchors
        if (known := neighbours.get(anchor.entity_no)) is not None and len(known.numbers)
    ]
    if not used:
        return Related(NOTHING, lambda _: {})
    if native.compiled:
        return _related(used, limit)
    lengths = [len(known.numbers) for _, known in used]
    parts = np.repeat(np.array([anchor.weight for anchor, _ in used], np.float64), lengths)
    parts *= np.concatenate([known.scores for _, known in used])
    numbers, place = np.unique(
        np.concatenate([known.numbers for _, known in used]), return_inverse=True
    )
    sums = np.bincount(place, parts).astype(np.float64, copy=False)
    best = np.flatnonzero(sums > 0)
    if len(best) > limit:
        worst = len(best) - limit
        best = best[sums[best] >= np.partition(sums[best], worst)[worst]]
    # Numbers ascend, and the sort is stable: equal sums come by number.
    best = best[np.argsort(-sums[best], kind="stable")[:limit]]
    led = _Led(numbers, place, parts, [anchor.entity_no for anchor, _ in used], lengths)
    return Related(Ranked(numbers[best], sums[best]), led)


def _related(used: Sequence[tuple[Anchor, Neighbours]], limit: int) -> Related:
    """The same as `relate` from here on, compiled."""
    sums = native.kernels.Sums(
        [known.numbers for _, known in used],
        [known.scores for _, known in used],
        [anchor.weight for anchor, _ in used],
        [anchor.entity_no for anchor, _ in used],
    )
    return Related(Ranked(*sums.best(limit)), lambda wanted: sums.because(_numbers(wanted)))


def _numbers(wanted: Iterable[int]) -> NDArray[np.int64]:
    return wanted if isinstance(wanted, np.ndarray) else np.array(list(wanted), np.int64)


class _Led:
    """Who led to entities, looked up when it is asked for: of most it is not.

    Args:
        numbers: int64, of the entities, ascending.
        place: intp, the entity of each part.
        parts: float64, what the anchors add to the entities.
        anchors: numbers of the anchors.
        lengths: how many parts each has, one after the other.
    """

    def __init__(
        self,
        numbers: NDArray[np.int64],
        place: NDArray[np.intp],
        parts: NDArray[np.float64],
        anchors: Sequence[int],
        lengths: Sequence[int],
    ) -> None:
        self._numbers = numbers
        self._place = place
        self._parts = parts
        self._anchors = anchors
        self._lengths = lengths

    def __call__(self, wanted: Iterable[int]) -> Mapping[int, Sequence[int]]:
        """Of each entity the anchors with the largest parts, equal ones by number."""
        of = np.zeros(len(self._numbers), np.bool_)
        of[np.searchsorted(self._numbers, _numbers(wanted))] = True
        rows = np.flatnonzero(of[self._place])
        led = np.repeat(np.array(self._anchors, np.int64), self._lengths)[rows]
        place = self._place[rows]
        order = np.lexsort((led, -self._parts[rows], place))
        place, led = place[order], led[order]
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        ends = np.append(starts, len(place))[1:]
        names = led.tolist()
        return {
            number: names[start : min(end, start + MAX_BECAUSE)]
            for number, start, end in zip(
                self._numbers[place[starts]].tolist(), starts.tolist(), ends.tolist(), strict=True
            )
        }
