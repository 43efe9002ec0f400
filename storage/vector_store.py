"""The vector store: candidates of all sources in one statement, searched beside the vectors."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.queries import candidates, listed
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


@dataclass(frozen=True, slots=True)
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
    sources: Sequence[str]
    raws: Sequence[float]
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


def _grouped(rows: Iterable[Any], related_because: Mapping[int, Sequence[int]]) -> list[Candidate]:
    """Candidates by number, each with all that the sources say of it; a row is one's say."""
    found: dict[int, list[Any]] = {}
    for row in rows:
        source, number, raw, because, entity_type, entity_id, attributes, vector, boosts = row
        if source == "item_to_item":
            because = because or related_because.get(number, ())
        known = found.get(number)
        if known is None:
            found[number] = [
                number, entity_type, entity_id, [source], [raw], because or (), attributes, vector,
                boosts or (),
            ]  # fmt: skip
            continue
        known[3].append(source)
        known[4].append(raw)
        if because:
            known[5] = because
        if vector is not None:
            known[7] = vector
    return [Candidate(*found[number]) for number in sorted(found)]


class VectorStore:
    """Similarity search and the other candidate sources, for one tenant a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def candidates(self, tenant: Tenant, query: CandidateQuery) -> list[Candidate]:
        """What the sources offer, in one round trip, ordered by entity number."""
        seen = query.seen if query.seen_by is not None and query.seen is not None else ((), ())
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                candidates(
                    query.sources,
                    tenant.dimension,
                    related=query.related is not None,
                    seen=query.seen_by is not None and query.seen is None,
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
            )
        return _grouped(rows, query.related.because if query.related else {})

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
