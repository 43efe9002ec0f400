"""Entities as a worker remembers them, each in a place of its own."""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import native
from storage.entities import EntityKey, Look
from storage.vector_store import EntityFacts, Ranked

_NEVER, _ALWAYS, _AT_TIMES = range(3)  # whether an entity may be shown
_FIRST = 64  # places that there is room for at first; it doubles
_GONE: Look = ("", "", "{}")
# Bytes, measured with tracemalloc, and a tenth for what malloc takes.
_OF_A_FACT = 400  # beside the id and the attributes
_OF_A_VECTOR = 200  # beside its elements


@dataclass(frozen=True, slots=True)
class Chosen:
    """What may be taken of a ranking: places of known entities, intp (n,), and float64 (n,)."""

    places: NDArray[np.intp]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blocked:
    """What must not be shown.

    Attributes:
        places: intp (n,), of those of the entities that are known.
        count: how many the entities are.
        numbers: gives the numbers of some of them, which need not be known.
    """

    places: NDArray[np.intp]
    count: int
    numbers: Callable[[], Collection[int]]


class KnownEntities:
    """Facts and vectors of entities; a number without facts is that of an entity that is no more.

    Attributes:
        looks: by place, what it looks like.
        vectors: by number, float16 (dimension,), also of entities that are not known themselves.
    """

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self._at_times: dict[int, EntityFacts] = {}  # by place, of those that are shown at times
        self._places: dict[int, int] = {}
        self._of_keys: dict[EntityKey, int] = {}
        self.vectors: dict[int, NDArray[np.float16]] = {}
        self._numbers = np.zeros(_FIRST, np.int64)
        self._shown = np.zeros(_FIRST, np.uint8)
        self._blocked = np.zeros(_FIRST, np.bool_)
        self._of_facts = self._of_vectors = 0

    @property
    def size(self) -> int:
        """Bytes, as estimated."""
        return self._of_facts + self._of_vectors

    def __len__(self) -> int:
        return len(self.looks)

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def learn(self, number: int, facts: EntityFacts | None) -> None:
        """Takes in an entity; None: it is no more."""
        if number in self._places:
            return
        place = self._places[number] = len(self.looks)
        if place == len(self._numbers):
            self._grow()
        self._numbers[place] = number
        self._of_facts += _OF_A_FACT
        if facts is None:
            self.looks.append(_GONE)
            return
        entity_type, entity_id = facts.key
        key = (sys.intern(entity_type), entity_id)
        self._of_facts += len(entity_id) + len(facts.attributes)
        self.looks.append((*key, facts.attributes))
        self._of_keys[key] = place
        if facts.is_always_shown:
            self._shown[place] = _ALWAYS
        elif not facts.is_never_shown:
            self._shown[place] = _AT_TIMES
            self._at_times[place] = facts

    def learn_vector(self, number: int, vector: NDArray[np.float16]) -> None:
        """Takes in the vector of an entity, whether the entity itself is known or not."""
        if number not in self.vectors:
            self.vectors[number] = vector
            self._of_vectors += _OF_A_VECTOR + vector.nbytes

    def forget_vectors(self) -> None:
        """Leaves the entities as they are known, without their vectors."""
        self.vectors.clear()
        self._of_vectors = 0

    def head(self, ranked: Ranked, depth: int) -> Chosen:
        """The first of a ranking up to one that is not known, or is shown at times only.

        Those that are never shown are not among them. It stays as it is for as long as this does.
        """
        head = self.places_of(ranked.numbers[:depth])
        unsure = np.flatnonzero((head < 0) | (self._shown[head] == _AT_TIMES))
        sure = head[: unsure[0]] if len(unsure) else head
        kept = np.flatnonzero(self._shown[sure] == _ALWAYS)
        return Chosen(sure[kept], ranked.scores[kept])

    def best_of_head(self, head: Chosen, limit: int, blocked: Blocked) -> Chosen | None:
        """The first of a head that are not blocked; None: they are less than the limit."""
        if native.compiled:
            found = native.kernels.unblocked(
                head.places, head.scores, limit, blocked.places, self._blocked
            )
            return None if found is None else Chosen(*found)
        self._blocked[blocked.places] = True
        kept = np.flatnonzero(~self._blocked[head.places])[:limit]
        self._blocked[blocked.places] = False
        return Chosen(head.places[kept], head.scores[kept]) if len(kept) == limit else None

    def best(self, ranked: Ranked, limit: int, blocked: Blocked, at: datetime) -> Chosen | None:
        """The first entities of a ranking that may be shown; None: too little is known to say."""
        if native.compiled:
            found = native.kernels.shown(
                ranked.numbers, ranked.scores, limit, self._places, self._shown,
                blocked.places, self._blocked, blocked.numbers, self._at_times, at,
            )  # fmt: skip
            return None if found is None else Chosen(*found)
        wanted = limit + blocked.count
        self._blocked[blocked.places] = True
        try:
            while True:
                numbers = ranked.numbers[:wanted]
                head = self.places_of(numbers)
                kept = np.flatnonzero(self._may_be_shown(head, at))
                unknown = self._first_unknown(numbers, head, blocked)
                kept = kept[kept < unknown][:limit]
                if len(kept) == limit:
                    break
                if unknown < len(head):
                    return None
                if wanted >= len(ranked.numbers):
                    break
                wanted *= 2
        finally:
            self._blocked[blocked.places] = False
        return Chosen(head[kept], ranked.scores[kept])

    def union(
        self, chosen: Sequence[Chosen], with_vectors: Sequence[bool]
    ) -> tuple[
        NDArray[np.int64],
        list[Look],
        NDArray[np.intp],
        NDArray[np.intp],
        NDArray[np.float64],
        list[NDArray[np.float16] | None],
    ]:
        """What several sources have chosen, by entity number.

        Args:
            with_vectors: of each source whether the vectors of what it has chosen are wanted.

        Returns:
            Of the entities numbers, looks and vectors, and of what is chosen places in them,
            places of the sources, and scores: see `Candidates`.
        """
        places = [said.places for said in chosen]
        scores = [said.scores for said in chosen]
        if native.compiled:
            return native.kernels.union(
                places, scores, self._numbers, self.looks, list(with_vectors), self.vectors
            )
        at = np.concatenate([np.empty(0, np.intp), *places])
        offered_by = np.repeat(np.arange(len(places)), [len(own) for own in places])
        numbers = self._numbers[at]
        order = np.argsort(numbers, kind="stable")
        numbers, at, offered_by = numbers[order], at[order], offered_by[order]
        is_first = np.diff(numbers, prepend=-1) > 0
        numbers, items = numbers[is_first], np.cumsum(is_first) - 1
        vectors: list[NDArray[np.float16] | None] = [None] * len(numbers)
        for source in np.flatnonzero(with_vectors).tolist():
            rows = items[offered_by == source]
            for row, number in zip(rows.tolist(), numbers[rows].tolist(), strict=True):
                vectors[row] = self.vectors.get(number)
        looks = [self.looks[place] for place in at[is_first].tolist()]
        raws = np.concatenate([np.empty(0, np.float64), *scores])[order]
        return numbers, looks, items, offered_by, raws, vectors

    def missing(self, ranked: Ranked, depth: int, blocked: Blocked) -> list[int]:
        """Numbers of a ranking that are not known, of its first or, where all are, of the next."""
        numbers = blocked.numbers()
        depth += len(numbers)
        while True:
            found = [
                number
                for number in ranked.numbers[:depth].tolist()
                if number not in self._places and number not in numbers
            ]
            if found or depth >= len(ranked.numbers):
                return found
            depth *= 2

    @staticmethod
    def _first_unknown(numbers: NDArray[np.int64], head: NDArray[np.intp], blocked: Blocked) -> int:
        for place in np.flatnonzero(head < 0).tolist():
            if int(numbers[place]) not in blocked.numbers():
                return int(place)
        return len(head)

    def places_of(self, numbers: NDArray[np.int64]) -> NDArray[np.intp]:
        """The places of entities by number; -1 for one that is not known."""
        if native.compiled:
            return native.kernels.places_of(self._places, numbers)
        return np.array(list(map(self._places.get, numbers.tolist(), repeat(-1))), np.intp)

    def of_keys(self, keys: Iterable[EntityKey]) -> NDArray[np.intp]:
        """The places of those of some keys that are known."""
        found = map(self._of_keys.get, keys)
        return np.array([place for place in found if place is not None], np.intp)

    def numbers(self, places: NDArray[np.intp]) -> NDArray[np.int64]:
        """The numbers of entities by place."""
        return self._numbers[places]

    def _may_be_shown(self, places: NDArray[np.intp], at: datetime) -> NDArray[np.bool_]:
        states = self._shown[places]  # of what is not known any other's, and without effect
        may = (states == _ALWAYS) & (places >= 0)
        for row in np.flatnonzero(states == _AT_TIMES).tolist():
            may[row] = places[row] >= 0 and self._at_times[int(places[row])].is_shown(at)
        shown: NDArray[np.bool_] = may & ~self._blocked[places]
        return shown

    def _grow(self) -> None:
        for name in ("_numbers", "_shown", "_blocked"):
            old: NDArray[Any] = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
