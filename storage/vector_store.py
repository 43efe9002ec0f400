"""The vector store: candidates of all sources in one statement, searched beside the vectors."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.entities import EntityKey
from storage.queries import candidates, listed, nearest, nearest_parameters, remembered_lists
from storage.tenants import Tenant
from storage.text_lists import joined

_LISTED = listed()


@dataclass(frozen=True, slots=True)
class Related:
    """What item_to_item is given in the place of a history, best first.

    Attributes:
        ranked: entities by the weighted sums of their scores as neighbours.
        because: of some of their numbers the anchors that led to each, strongest first.
    """

    ranked: "Ranked"
    because: Callable[[Iterable[int]], Mapping[int, Sequence[int]]]


class CandidateQuery(NamedTuple):  # as `engine.requests.RecommendQuery`
    """What candidates are wanted.

    Attributes:
        sources: names of the sources to ask (files of sql/candidates).
        limit: candidates a source.
        entity_type: None for all types but "user".
        filter_path, filter_variables: a compiled filter, or None.
        excluded: (entity_type, entity_id) that must not appear.
        seen_by: user whose seen entities are left out, or None.
        seen: (entity_type, entity_id) that this user has seen; None: to be looked up.
        profile, context: float32 unit vectors of the tenant's dimension, or None.
        history: (entity_no, weight) for item-to-item.
        related: what comes of the history, where that is known; the history is not looked at then.
        boosts: compiled filters (path, variables); the answer says which match.
        model: what a trained model offers.
        vectors: sources whose candidates are wanted with their feature vectors.
        wanted: entities of which the facts are wanted beside what the sources offer.
    """

    sources: frozenset[str]
    limit: int
    entity_type: str | None = None
    filter_path: str | None = None
    filter_variables: str | None = None
    excluded: Sequence[tuple[str, str]] = ()
    seen_by: str | None = None
    seen: Sequence[tuple[str, str]] | None = None
    profile: NDArray[np.float32] | None = None
    context: NDArray[np.float32] | None = None
    history: Sequence[tuple[int, float]] = ()
    related: Related | None = None
    segment: str = ""
    boosts: Sequence[tuple[str, str]] = ()
    model: "Ranked | None" = None
    vectors: Collection[str] = ()
    wanted: Sequence[int] = ()

    @property
    def is_plain(self) -> bool:
        """Whether every entity of the catalogue may be in the answer, without a boost."""
        return not (self.filter_path or self.entity_type or self.boosts)


@dataclass(frozen=True, slots=True)
class EntityFacts:
    """What an answer needs to know of an entity; attributes is JSON text."""

    key: EntityKey
    attributes: str
    hidden: bool
    available_from: datetime | None
    available_until: datetime | None

    @property
    def is_never_shown(self) -> bool:
        """Whether it is not to be recommended at all, if not even its type is asked for."""
        return self.hidden or self.key[0] == "user"

    @property
    def is_always_shown(self) -> bool:
        """Whether it may be recommended at any time."""
        at_times = self.available_from is not None or self.available_until is not None
        return not (at_times or self.is_never_shown)

    def is_shown(self, at: datetime) -> bool:
        """Whether it may be recommended at a moment."""
        return not (
            self.is_never_shown
            or (self.available_from is not None and self.available_from > at)
            or (self.available_until is not None and self.available_until <= at)
        )


_WANTED = "wanted"  # in the place of a source's name
_SAID = 9  # columns of a row about what a source says; then hidden, from, until and the revision

Row: TypeAlias = tuple[Any, ...]
"""What one source says of an entity: source, number, raw, because, type, id, attributes, vector and
boosts, as `Candidate` has them."""


class Found:
    """What a statement of candidates found.

    Attributes:
        rows: each source's say.
        catalogue_revision: of the snapshot; None where nothing was found.
    """

    def __init__(self, records: Sequence[Any]) -> None:
        self._records = records
        self.rows: list[Row] = [r[:_SAID] for r in records if r[0] != _WANTED]
        self.catalogue_revision: int | None = records[0][-1] if records else None

    def facts(self, *, unless: Container[int]) -> dict[int, EntityFacts]:
        """Of the entities in the rows and of those that were wanted, by number.

        Args:
            unless: numbers of entities that are known already.
        """
        facts: dict[int, EntityFacts] = {}
        for record in self._records:
            number = record[1]
            if number not in unless and number not in facts:
                hidden, begins, ends, _ = record[_SAID:]
                facts[number] = EntityFacts((record[4], record[5]), record[6], hidden, begins, ends)
        return facts

    def vectors(self) -> Iterable[tuple[int, NDArray[np.float16]]]:
        """Numbers and vectors of what was found with its vector."""
        return [(row[1], row[7]) for row in self.rows if row[7] is not None]

    def led(self) -> dict[int, Sequence[int]]:
        """Of what item_to_item offers who led there, where PostgreSQL knows."""
        return {row[1]: row[3] for row in self.rows if row[3]}

    def by_source(self) -> dict[str, "Ranked"]:
        """Numbers and scores of what each source offers."""
        said: dict[str, tuple[list[int], list[float]]] = {}
        for row in self.rows:
            numbers, raws = said.setdefault(row[0], ([], []))
            numbers.append(row[1])
            raws.append(row[2])
        return {
            name: Ranked(np.array(numbers, np.int64), np.array(raws, np.float64))
            for name, (numbers, raws) in said.items()
        }


@dataclass(frozen=True, slots=True)
class Ranked:
    """Entities by number with scores, best first: int64 (n,) and float64 (n,)."""

    numbers: NDArray[np.int64]
    scores: NDArray[np.float64]


NOTHING = Ranked(np.empty(0, np.int64), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class Nearest:
    """Entities near vectors, by source, as a snapshot of some revision of the catalogue has them.

    Attributes:
        by_source: in no order.
        catalogue_revision: None where nothing was found.
    """

    by_source: Mapping[str, Ranked]
    catalogue_revision: int | None


@dataclass(slots=True)  # hundreds are made for an answer, and frozen ones take four times as long
class Candidate:
    """An entity that at least one source offers.

    Attributes:
        sources, raws: who offers it, with each one's own score.
        because: numbers of the history's entities that led item_to_item here, strongest first.
        attributes: JSON text.
        vector: float16, shape (dimension,), or None; None too where it was not asked for.
        boosts: for each boost of the query whether it matches.
    """

    entity_no: int
    entity_type: str
    entity_id: str
    sources: list[str]
    raws: list[float]
    because: Sequence[int] = ()
    attributes: str = "{}"
    vector: NDArray[np.float16] | None = None
    boosts: Sequence[bool] = field(default=())


@dataclass(frozen=True, slots=True)
class ShownEntity:
    """An entity of a page's snapshot that may still be shown; attributes is JSON text."""

    entity_no: int
    entity_type: str
    entity_id: str
    attributes: str


def _candidate(row: Any) -> Candidate:
    return Candidate(
        entity_no=row["entity_no"],
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        sources=row["sources"],
        raws=row["raws"],
        because=row["because"] or (),
        attributes=row["attributes_text"],
        vector=row["feature_vector"],
        boosts=row["boosts"] or (),
    )


def _grouped(rows: Sequence[Row], related: Related | None) -> list[Candidate]:
    """Candidates by number, each with all that the sources say of it.

    Args:
        related: what led item_to_item to entities, where the rows do not say so.
    """
    found: dict[int, Candidate] = {}
    led: Mapping[int, Sequence[int]] = {}
    if related is not None:
        led = related.because([row[1] for row in rows if row[0] == "item_to_item"])
    for source, number, raw, led_by, entity_type, entity_id, attributes, vector, boosts in rows:
        because = led_by or ()
        if source == "item_to_item" and not because:
            because = led.get(number, ())
        known = found.get(number)
        if known is None:
            found[number] = Candidate(
                number, entity_type, entity_id, [source], [raw], because, attributes, vector,
                boosts or (),
            )  # fmt: skip
            continue
        known.sources.append(source)
        known.raws.append(raw)
        if because:
            known.because = because
        if vector is not None:
            known.vector = vector
    return [found[number] for number in sorted(found)]


def _arguments(tenant: Tenant, query: CandidateQuery) -> Sequence[Any]:
    """Those of a statement in the frame of sql/candidates/_frame.sql."""
    blocked = [*query.excluded, *((query.seen or ()) if query.seen_by is not None else ())]
    related, model = query.related, query.model
    return (
        tenant.tenant_id,
        tenant.version,
        tenant.placement,
        query.entity_type,
        query.limit,
        query.filter_path,
        query.filter_variables,
        joined([entity_type for entity_type, _ in blocked]),
        joined([entity_id for _, entity_id in blocked]),
        query.seen_by,
        tenant.seen_types,
        query.profile,
        query.context,
        related.ranked.numbers.tolist() if related else [number for number, _ in query.history],
        related.ranked.scores.tolist() if related else [weight for _, weight in query.history],
        query.segment,
        [path for path, _ in query.boosts],
        [variables for _, variables in query.boosts],
        model.numbers.tolist() if model else (),
        model.scores.tolist() if model else (),
        query.vectors,
        query.wanted,
    )


class VectorStore:
    """Similarity search and the other candidate sources, for one tenant a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def candidates(self, tenant: Tenant, query: CandidateQuery) -> list[Candidate]:
        """What the sources offer, in one round trip, ordered by entity number."""
        found = await self.offers(tenant, query)
        return _grouped(found.rows, query.related)

    async def offers(self, tenant: Tenant, query: CandidateQuery) -> Found:
        """The same, as the sources say it."""
        keep_plans = query.is_plain
        async with self._database.connection(tenant.tenant_id, keep_plans=keep_plans) as connection:
            records = await connection.fetch(
                candidates(
                    query.sources,
                    tenant.dimension,
                    placement=tenant.placement if keep_plans else None,
                    related=query.related is not None,
                    seen=query.seen_by is not None and query.seen is None,
                    wanted=bool(query.wanted),
                ),
                *_arguments(tenant, query),
            )
        return Found(records)

    async def nearest(self, tenant: Tenant, query: CandidateQuery) -> Nearest:
        """What the sources that search vectors offer, by number, without a look at the entities.

        Args:
            query: plain, of such sources alone, and with what was seen.
        """
        every = _arguments(tenant, query)
        parameters = nearest_parameters(query.sources, tenant.dimension, tenant.placement)
        arguments = [every[number - 1] for number in parameters]
        async with self._database.connection(tenant.tenant_id, keep_plans=True) as connection:
            records = await connection.fetch(
                nearest(query.sources, tenant.dimension, tenant.placement), *arguments
            )
        return Nearest(
            {
                source: Ranked(
                    np.frombuffer(numbers, ">i8").astype(np.int64),
                    np.frombuffer(raws, ">f8").astype(np.float64),
                )
                for source, numbers, raws, _ in records
            },
            records[0][-1] if records else None,
        )

    async def lists(self, tenant: Tenant, segment: str) -> tuple[dict[str, Ranked], int]:
        """What is popular, trending and popular in a segment, whole, with the catalogue's revision.

        Returns:
            By source, every entity of the list, whether it may be shown or not.
        """
        async with self._database.connection(tenant.tenant_id, keep_plans=True) as connection:
            records = await connection.fetch(
                remembered_lists(tenant.placement), tenant.tenant_id, tenant.version, segment
            )
        lists = {
            r["source"]: Ranked(np.array(r["numbers"], np.int64), np.array(r["scores"], np.float64))
            for r in records
        }
        return lists, records[0]["catalogue_revision"] or 0

    async def score_list(
        self, tenant: Tenant, keys: Sequence[tuple[str, str]], query: CandidateQuery
    ) -> list[Candidate]:
        """What every source says of a given list; entities that cannot be shown are absent.

        Of the query only profile, context, history and boosts count.
        """
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _LISTED["listed"],
                tenant.tenant_id,
                tenant.version,
                tenant.placement,
                [entity_type for entity_type, _ in keys],
                [entity_id for _, entity_id in keys],
                query.profile,
                query.context,
                [number for number, _ in query.history],
                [weight for _, weight in query.history],
                [path for path, _ in query.boosts],
                [variables for _, variables in query.boosts],
            )
        return [_candidate(row) for row in rows]

    async def shown(self, tenant: Tenant, numbers: Sequence[int]) -> dict[int, ShownEntity]:
        """Entities by number, without those that may not be shown now."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _LISTED["by_numbers"], tenant.tenant_id, tenant.version, tenant.placement, numbers
            )
        return {
            r["entity_no"]: ShownEntity(
                r["entity_no"], r["entity_type"], r["entity_id"], r["attributes_text"]
            )
            for r in rows
        }

    async def trending_window(self, tenant: Tenant) -> tuple[datetime, datetime] | None:
        """The window that trending was last counted over; None when nothing was."""
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(_LISTED["trending_window"], tenant.tenant_id)
        if row is None or row["window_end"] is None:
            return None
        return row["window_start"], row["window_end"]
