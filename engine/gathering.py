"""Candidates of all sources: what a worker knows of them from memory, the rest from PostgreSQL."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from engine.candidates import Candidates
from engine.known_catalogue import KnownCatalogue, KnownTenant
from engine.known_entities import Blocked, Chosen
from engine.sources import CONTENT, CONTEXT, ITEM_TO_ITEM, MODEL
from storage.situations import Recalled, Situation
from storage.tenants import Tenant
from storage.vector_store import NOTHING, CandidateQuery, Ranked, VectorStore

_SEARCHED = frozenset({CONTENT.name, CONTEXT.name})
"""Sources that search vectors: what they offer is nowhere but in PostgreSQL."""

_ASKED_BESIDE = 16
"""Entities of a list whose facts are asked for beyond what is wanted of it: some will be hidden."""


class Gatherer:
    """Gathers the candidates of an answer.

    Args:
        vectors: the sources.
        known: what this worker remembers of catalogues.
    """

    def __init__(self, vectors: VectorStore, known: KnownCatalogue) -> None:
        self._vectors = vectors
        self._known = known

    def recalled(self, tenant: Tenant) -> Recalled | None:
        """What an answer can start from without reading it; None: all of it is to be read."""
        return self._known.recalled(tenant)

    def surprised(self, tenant: Tenant) -> None:
        """Notes that this did not suffice."""
        self._known.surprised(tenant)

    async def candidates(
        self, tenant: Tenant, query: CandidateQuery, situation: Situation
    ) -> Candidates:
        """What the sources offer, ordered by entity number.

        PostgreSQL is asked for what is not known, in one round trip but where less was known than
        the last answers had let expect. The answer is the same whatever is known.

        Args:
            situation: what the answer starts from.
        """
        known = None
        if query.is_plain and (query.seen_by is None or query.seen is not None):
            revision = situation.versions.catalogue_revision
            known = self._known.of(tenant, revision, query.segment)
        if known is None:
            return Candidates.of(await self._vectors.candidates(tenant, query))
        known.learn(situation)
        try:
            found = await _Gathering(self._vectors, known, tenant, query, situation).found()
        finally:
            known.answered()
            self._known.make_room(tenant)
        # The catalogue changed meanwhile: one statement sees one state of it.
        return found or Candidates.of(await self._vectors.candidates(tenant, query))


class _Gathering:
    """The candidates of one answer."""

    def __init__(
        self,
        vectors: VectorStore,
        known: KnownTenant,
        tenant: Tenant,
        query: CandidateQuery,
        situation: Situation,
    ) -> None:
        self._vectors = vectors
        self._known = known
        self._entities = known.entities
        self._tenant = tenant
        self._query = query
        self._at = situation.read_at
        self._history = situation.user.history
        self._hidden = list(query.excluded)
        if query.seen_by is not None:
            self._hidden += query.seen or ()
        self._lists = dict(_lists(query, known))
        self._asked = query.sources.difference(self._lists)
        self._led: Mapping[int, Sequence[int]] = {}

    @cached_property
    def _hidden_numbers(self) -> frozenset[int]:
        """The numbers of what must not be shown, as far as the history knows them."""
        hidden = frozenset(self._hidden)
        return frozenset(
            item.entity_no for item in self._history if (item.entity_type, item.entity_id) in hidden
        )

    async def found(self) -> Candidates | None:
        """None: the catalogue is not what it was when the answer was begun."""
        if self._known.is_familiar and self._asked <= _SEARCHED:
            by_number = await self._by_number()
            if by_number is not None:
                return by_number
            self._known.surprised()
        return await self._with_facts()

    async def _by_number(self) -> Candidates | None:
        """The entities being known, all that is asked for is their numbers; None: some are not."""
        chosen, missing = self._of_lists()
        if missing:
            return None
        if self._asked:
            nearest = await self._vectors.nearest(self._tenant, self._only(self._asked))
            if nearest.catalogue_revision not in {None, self._known.revision[1]}:
                return None
            vectors = self._entities.vectors
            for name, ranked in nearest.by_source.items():
                places = self._entities.places_of(ranked.numbers)
                known = all(map(vectors.__contains__, ranked.numbers.tolist()))
                if not known or (places < 0).any():
                    return None
                chosen[name] = Chosen(places, ranked.scores)
        return self._columns(chosen)

    async def _with_facts(self) -> Candidates | None:
        """Facts of what is not known are asked for."""
        said: dict[str, Chosen] = {}
        asked = self._asked
        while True:
            chosen, missing = self._of_lists()
            if not (asked or missing):
                return self._columns(said | chosen)
            ask = self._only(asked)._replace(wanted=missing)
            found = await self._vectors.offers(self._tenant, ask)
            if found.catalogue_revision != self._known.revision[1] and (found.rows or missing):
                return None
            facts = found.facts(unless=self._entities)
            for number in (*facts, *missing):
                self._entities.learn(number, facts.get(number))
            for number, vector in found.vectors():
                self._entities.learn_vector(number, vector)
            for name, ranked in found.by_source().items():
                places = self._entities.places_of(ranked.numbers)
                said[name] = Chosen(places, ranked.scores)
            self._led = {**self._led, **found.led()}
            asked = frozenset()

    def _only(self, sources: frozenset[str]) -> CandidateQuery:
        """The query for some of its sources, without what only others look at."""
        query = self._query
        related = ITEM_TO_ITEM.name in sources
        return query._replace(
            sources=sources,
            model=query.model if MODEL.name in sources else None,
            related=query.related if related else None,
            history=query.history if related else (),
        )

    def _of_lists(self) -> tuple[dict[str, Chosen], list[int]]:
        """What is taken of lists, and numbers whose facts are to be asked for before all is."""
        chosen: dict[str, Chosen] = {}
        missing: dict[int, None] = {}
        places = self._entities.of_keys(self._hidden)
        blocked = Blocked(places, len(self._hidden), lambda: self._hidden_numbers)
        limit, depth = self._query.limit, self._query.limit + _ASKED_BESIDE
        for name, ranked in self._lists.items():
            best = self._known.best(ranked, limit, blocked, self._at)
            if best is not None:
                chosen[name] = best
            else:
                missing |= dict.fromkeys(self._entities.missing(ranked, depth, blocked))
        return chosen, list(missing)

    def _columns(self, chosen: Mapping[str, Chosen]) -> Candidates:
        """What was chosen, by entity number."""
        query = self._query
        names = sorted(name for name, said in chosen.items() if len(said.places))
        numbers, looks, items, offered_by, raws, vectors = self._entities.union(
            [chosen[name] for name in names], [name in query.vectors for name in names]
        )
        led = self._led
        if ITEM_TO_ITEM.name in chosen and query.related is not None:
            led = query.related.because(self._entities.numbers(chosen[ITEM_TO_ITEM.name].places))
        return Candidates(
            numbers=numbers,
            looks=looks,
            sources=names,
            items=items,
            offered_by=offered_by,
            raws=raws,
            led=led,
            vectors=vectors,
        )


def _lists(query: CandidateQuery, known: KnownTenant) -> Iterable[tuple[str, Ranked]]:
    """The sources whose lists are there, but for those whose vectors are wanted."""
    for name in query.sources.difference(query.vectors):
        if name == MODEL.name:
            yield name, query.model or NOTHING
        elif name == ITEM_TO_ITEM.name:
            if query.related is not None:
                yield name, query.related.ranked
        elif (best := known.ranked(name, query.segment)) is not None:
            yield name, best
