"""Candidates as columns: what the sources say of the entities that they offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.entities import Look
from storage.vector_store import Candidate


@dataclass(frozen=True, slots=True)
class Candidates:
    """n entities, s times offered by m sources; what is offered twice stands here twice.

    Attributes:
        numbers: int64 (n,), of the entities.
        looks: (n,), their type, id and attributes.
        sources: (m,), names, in order.
        items: intp (s,), ascending: places of what is offered.
        offered_by: intp (s,), places of the sources.
        raws: float64 (s,), each source's own score.
        led: of an entity's number those of the history that led item_to_item there, strongest
            first; those that are not here were led to by nobody.
        vectors: (n,), float16 (dimension,) or None, also where it was not asked for.
        boosts: (n,), for each boost of the query whether the entity matches; () for no boosts.
    """

    numbers: NDArray[np.int64]
    looks: Sequence[Look]
    sources: Sequence[str]
    items: NDArray[np.intp]
    offered_by: NDArray[np.intp]
    raws: NDArray[np.float64]
    led: Mapping[int, Sequence[int]]
    vectors: Sequence[NDArray[Any] | None]
    boosts: Sequence[Sequence[bool]] = field(default=())

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "Candidates":
        """Candidates in their order."""
        said_by = list(chain.from_iterable([c.sources for c in candidates]))
        sources = sorted(set(said_by))
        place = {name: place for place, name in enumerate(sources)}
        return cls(
            numbers=np.array([c.entity_no for c in candidates], np.int64),
            looks=[(c.entity_type, c.entity_id, c.attributes) for c in candidates],
            sources=sources,
            items=np.repeat(np.arange(len(candidates)), [len(c.sources) for c in candidates]),
            offered_by=np.array([place[name] for name in said_by], np.intp),
            raws=np.array(list(chain.from_iterable([c.raws for c in candidates])), np.float64),
            led={c.entity_no: c.because for c in candidates if c.because},
            vectors=[c.vector for c in candidates],
            boosts=[c.boosts for c in candidates] if candidates and candidates[0].boosts else (),
        )

    def __len__(self) -> int:
        return len(self.looks)

    def said(self, place: int) -> slice:
        """Where what is said of one of them stands in `items`, `offered_by` and `raws`."""
        start, end = np.searchsorted(self.items, (place, place + 1))
        return slice(int(start), int(end))

    def by_source(self) -> dict[str, int]:
        """How often each source offers something."""
        counts = np.bincount(self.offered_by, minlength=len(self.sources))
        return dict(zip(self.sources, counts.tolist(), strict=True))

    def objects(self) -> list[Candidate]:
        """The same, one by one."""
        ends = np.cumsum(np.bincount(self.items, minlength=len(self))).tolist()
        names = [self.sources[place] for place in self.offered_by.tolist()]
        raws = self.raws.tolist()
        made = []
        start = 0
        for place, (number, look, end) in enumerate(
            zip(self.numbers.tolist(), self.looks, ends, strict=True)
        ):
            entity_type, entity_id, attributes = look
            made.append(
                Candidate(
                    number, entity_type, entity_id, names[start:end], raws[start:end],
                    self.led.get(number, ()), attributes, self.vectors[place],
                    self.boosts[place] if self.boosts else (),
                )
            )  # fmt: skip
            start = end
        return made
