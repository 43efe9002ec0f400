"""The vector store: candidates of all sources in one statement, searched beside the vectors."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.entities import EntityKey
from storage.queries import candidates, listed, remembered_lists
from storage.tenants import Tenant

_LISTED = listed()


@dataclass(frozen=True, slots=True)
class Related:
    """What item_to_item is given in the place of a history, best first.

    Attributes:
        numbers, sums: entities and the weighted sums of their scores as neighbours.
        because: of each number the anchors that led to it, strongest first.
    """

    numbers: Sequence[int]
    sums: Sequence[float]
    because: Mapping[int, Sequence[int]]


@dataclass(frozen=True, slots=True)
class CandidateQuery:
    """What candidates are wanted.

    Attributes:
        sources: names of the sources to ask (files of sql/candidates).
        limit: candidates a source.
        entity_type: None for all types but "user".
        filter_path, filter_variables: a compiled filter, or None.
        excluded: (entity_type, entity_id) that must not appear.
        seen_by: user whose seen entities are left out, or None.
        seen: types and ids of what that user has seen; None where they are to be looked up.
        profile, context: float32 unit vectors of the tenant's dimension, or None.
        history: (entity_no, weight) for item-to-item.
        related: what comes of the history, where that is known; the history is not looked at then.
        boosts: compiled filters (path, variables); the answer says which match.
        model: numbers and scores that a trained model offers.
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
    seen: tuple[Sequence[str], Sequence[str]] | None = None
    profile: NDArray[np.float32] | None = None
    context: NDArray[np.float32] | None = None
    history: Sequence[tuple[int, float]] = ()
    related: Related | None = None
    segment: str = ""
    boosts: Sequence[tuple[str, str]] = ()
    model: tuple[Sequence[int], Sequence[float]] = ((), ())
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
    is_always_shown: bool = field(init=False)

    def __post_init__(self) -> None:
        never_or_at_times = (
            self.hidden
            or self.key[0] == "user"
            or self.available_from is not None
            or self.available_until is not None
        )
        object.__setattr__(self, "is_always_shown", not never_or_at_times)

    def is_shown(self, at: datetime) -> bool:
        """Whether it may be recommended at a moment, if not even its type is asked for."""
        return not (
            self.hidden
            or self.key[0] == "user"
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


@dataclass(frozen=True, slots=True)
class RankedList:
    """Entities by number with scores, best first."""

    numbers: Sequence[int]
    scores: Sequence[float]


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


def grouped(
    rows: Iterable[Row], related_because: Mapping[int, Sequence[int]] | None = None
) -> list[Candidate]:
    """Candidates by number, each with all that the sources say of it.

    Args:
        related_because: what led item_to_item to an entity, where the rows do not say so.
    """
    found: dict[int, Candidate] = {}
    led: Mapping[int, Sequence[int]] = {} if related_because is None else related_because
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


class VectorStore:
    """Similarity search and the other candidate sources, for one tenant a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def candidates(self, tenant: Tenant, query: CandidateQuery) -> list[Candidate]:
        """What the sources offer, in one round trip, ordered by entity number."""
        found = await self.offers(tenant, query)
        return grouped(found.rows, query.related.because if query.related else None)

    async def offers(self, tenant: Tenant, query: CandidateQuery) -> Found:
        """The same, as the sources say it."""
        seen = query.seen if query.seen_by is not None and query.seen is not None else ((), ())
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
                tenant.tenant_id,
                tenant.version,
                tenant.placement,
                query.entity_type,
                query.limit,
                query.filter_path,
                query.filter_variables,
                [entity_type for entity_type, _ in query.excluded] + list(seen[0]),
                [entity_id for _, entity_id in query.excluded] + list(seen[1]),
                query.seen_by,
                tenant.seen_types,
                query.profile,
                query.context,
                query.related.numbers if query.related else [number for number, _ in query.history],
                query.related.sums if query.related else [weight for _, weight in query.history],
                query.segment,
                [path for path, _ in query.boosts],
                [variables for _, variables in query.boosts],
                query.model[0],
                query.model[1],
                query.vectors,
                query.wanted,
            )
        return Found(records)

    async def lists(self, tenant: Tenant, segment: str) -> tuple[dict[str, RankedList], int]:
        """What is popular, trending and popular in a segment, whole, with the catalogue's revision.

        Returns:
            By source, every entity of the list, whether it may be shown or not.
        """
        async with self._database.connection(tenant.tenant_id, keep_plans=True) as connection:
            records = await connection.fetch(
                remembered_lists(tenant.placement), tenant.tenant_id, tenant.version, segment
            )
        lists = {r["source"]: RankedList(r["numbers"], r["scores"]) for r in records}
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
