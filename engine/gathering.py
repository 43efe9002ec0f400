"""Candidates of all sources: what a worker knows of them from memory, the rest from PostgreSQL."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from engine.known_catalogue import KnownCatalogue, KnownTenant
from engine.sources import ITEM_TO_ITEM, MODEL
from storage.entities import EntityKey
from storage.tenants import Tenant
from storage.users import Situation
from storage.vector_store import (
    Candidate,
    CandidateQuery,
    EntityFacts,
    RankedList,
    Related,
    Row,
    VectorStore,
    grouped,
)

_ASKED_BESIDE = 16
"""Entities of a list whose facts are asked for beyond what is wanted of it: some will be hidden."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """What may be taken of ranked lists.

    Attributes:
        known, heard: facts of entities by number; None: it is no more.
        blocked: types and ids that must not appear.
        blocked_numbers: numbers of some of them, whose facts need not be known.
        at: the moment of which availability counts.
        limit: entities of a list.
    """

    known: Mapping[int, EntityFacts | None]
    heard: Mapping[int, EntityFacts | None]
    blocked: Collection[EntityKey]
    blocked_numbers: Collection[int]
    at: datetime
    limit: int

    def of(self, source: str, ranked: RankedList) -> tuple[list[Row], list[int]]:
        """The best of a list, and numbers whose facts have to be asked for before that is true."""
        known, heard, at = self.known, self.heard, self.at
        blocked, blocked_numbers = self.blocked, self.blocked_numbers
        rows: list[Row] = []
        missing: list[int] = []
        left, unknown = self.limit, 0
        for number, score in zip(ranked.numbers, ranked.scores, strict=True):
            if number in blocked_numbers:
                continue
            if number in known:
                facts = known[number]
            elif number in heard:
                facts = heard[number]
            else:
                missing.append(number)
                facts = None
                left -= 1
                unknown = _ASKED_BESIDE
            # Hundreds of times an answer: no call where that can be.
            if (
                facts is not None
                and facts.key not in blocked
                and (facts.is_always_shown or facts.is_shown(at))
            ):
                kind, name = facts.key
                rows.append((source, number, score, None, kind, name, facts.attributes, None, None))
                left -= 1
            if left + unknown <= 0:
                break
        return rows[: self.limit], missing


class Gatherer:
    """Gathers the candidates of an answer.

    Args:
        vectors: the sources.
        known: what this worker remembers of catalogues.
    """

    def __init__(self, vectors: VectorStore, known: KnownCatalogue) -> None:
        self._vectors = vectors
        self._known = known

    async def candidates(
        self, tenant: Tenant, query: CandidateQuery, situation: Situation
    ) -> list[Candidate]:
        """What the sources offer, ordered by entity number.

        PostgreSQL is asked for what is not known, in one round trip but where more of a list turns
        out to be hidden than was thought. The answer is the same whatever is known.

        Args:
            situation: what the answer starts from.
        """
        known = None
        if query.is_plain and (query.seen_by is None or query.seen is not None):
            revision = situation.versions.catalogue_revision
            known = self._known.of(tenant, revision, query.segment)
        if known is None:
            return await self._vectors.candidates(tenant, query)
        ranked = dict(_ranked(query, known))
        blocked = set(query.excluded)
        if query.seen_by is not None and query.seen is not None:
            blocked.update(zip(*query.seen, strict=True))
        heard: dict[int, EntityFacts | None] = {}
        choice = _Choice(
            known.entities,
            heard,
            blocked,
            {
                h.entity_no
                for h in situation.user.history
                if (h.entity_type, h.entity_id) in blocked
            },
            situation.read_at,
            query.limit,
        )
        ask = replace(
            query,
            sources=query.sources.difference(ranked),
            model=((), ()) if MODEL.name in ranked else query.model,
            related=Related((), (), {}) if ITEM_TO_ITEM.name in ranked else query.related,
        )
        rows: list[Row] = []
        chosen: dict[str, list[Row]] = {}
        while ranked or ask.sources:
            wanted: dict[int, None] = {}
            for name, best in list(ranked.items()):
                chosen[name], missing = choice.of(name, best)
                wanted.update(dict.fromkeys(missing))
                if not missing:
                    del ranked[name]
            if not (ask.sources or wanted):
                break
            found = await self._vectors.offers(tenant, replace(ask, wanted=list(wanted)))
            facts = found.facts(unless=known.entities)
            known.learn(facts, wanted, found.catalogue_revision)
            heard |= {number: facts.get(number) for number in wanted}
            rows += found.rows
            ask = replace(ask, sources=frozenset())
        self._known.make_room(tenant)
        because = query.related.because if query.related else None
        return grouped(_by_source(rows, chosen), because)


def _ranked(query: CandidateQuery, known: KnownTenant) -> Iterable[tuple[str, RankedList]]:
    """The sources whose lists are there, but for those whose vectors are wanted."""
    for name in query.sources.difference(query.vectors):
        if name == MODEL.name:
            yield name, RankedList(*query.model)
        elif name == ITEM_TO_ITEM.name:
            if query.related is not None:
                yield name, RankedList(query.related.numbers, query.related.sums)
        elif (best := known.ranked(name, query.segment)) is not None:
            yield name, best


def _by_source(rows: Iterable[Row], chosen: Mapping[str, list[Row]]) -> Iterable[Row]:
    """All that was said, in the order in which PostgreSQL would have said it."""
    said = dict(chosen)
    for row in rows:
        said.setdefault(row[0], []).append(row)
    for name in sorted(said):
        yield from said[name]
