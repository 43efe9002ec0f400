"""Users: profiles, recent history and who is like whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.entities import EntityKey, EntityRow
from storage.queries import load, user_situation
from storage.sessions import changed
from storage.tenants import Tenant
from storage.vector_codecs import array_elements, halfvec_array, halfvec_rows
from storage.version_slots import Stamp

_SQL = load("users")
_ENTITIES = load("entities")
_SEGMENTS_A_STATEMENT = 5_000
_MOST_SEEN = 1_000  # interactions that a list of what was seen is made from


@dataclass(slots=True)  # a hundred are made for an answer, and frozen ones take four times as long
class HistoryItem:
    """An entity of a user's recent history.

    Attributes:
        weight: the sum of the interactions' weights; negative means dislike.
        vector: float16 feature vector of the most recent liked ones, else None.
    """

    entity_no: int
    entity_type: str
    entity_id: str
    weight: float
    happened_at: datetime
    vector: NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Versions:
    """What a cached answer for a user depends on, of one snapshot.

    Attributes:
        catalogue_revision: changes with every change of the tenant's catalogue.
        revision: of the user's profile; 0 for a user never seen.
        model_revision: of the tenant's newest promotion of a model; 0 when there was none.
        transaction_id: every transaction with a smaller number is part of the snapshot.
    """

    catalogue_revision: int
    revision: int
    model_revision: int
    transaction_id: int


@dataclass(frozen=True, slots=True)
class UserContext:
    """What an answer for a user starts from, of one snapshot.

    Attributes:
        accumulator: float32, shape (dimension,), or None.
        history: recent entities, newest first.
        segment: the user entity's value of the tenant's segment attribute, or "".
    """

    interaction_count: int
    accumulator: NDArray[np.float32] | None
    history: tuple[HistoryItem, ...]
    segment: str


def _versions(row: Any) -> Versions:
    return Versions(
        catalogue_revision=row["catalogue_revision"] or 0,
        revision=row["revision"] or 0,
        model_revision=row["model_revision"] or 0,
        transaction_id=row["transaction_id"],
    )


def _history(row: Any, vectors: int) -> tuple[HistoryItem, ...]:
    """The entities of a history; those that were only seen, or are gone, have no number."""
    directions = iter(halfvec_rows(row["vectors"]))
    return tuple(
        HistoryItem(
            number, entity_type, entity_id, weight, happened_at,
            next(directions) if has_vector and weight > 0 and place < vectors else None,
        )
        for place, (number, entity_type, entity_id, weight, happened_at, has_vector) in enumerate(
            zip(
                row["entity_nos"] or (),
                row["entity_types"] or (),
                row["entity_ids"] or (),
                row["weights"] or (),
                row["happened_at"] or (),
                row["has_vector"] or (),
                strict=True,
            )
        )
        if number is not None
    )  # fmt: skip


def _looked_at(row: Any) -> tuple[EntityRow, ...]:
    if not row["looked_nos"]:
        return ()
    directions = iter(halfvec_rows(row["looked_vectors"]))
    return tuple(
        EntityRow(
            entity_type,
            entity_id,
            entity_no=number,
            feature_vector=next(directions) if has_vector else None,
        )
        for number, entity_type, entity_id, has_vector in zip(
            row["looked_nos"],
            row["looked_types"],
            row["looked_ids"],
            row["looked_have_vector"],
            strict=True,
        )
    )


@dataclass(frozen=True, slots=True)
class ScoredUserRow:
    """A user and the cosine with what was asked for."""

    user_id: str
    score: float
    interaction_count: int


@dataclass(frozen=True, slots=True)
class UserSegment:
    """A user's learned segment, and the factors it was learned from: float32 (d,)."""

    user_id: str
    segment: str
    factors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NeighbourRows:
    """Rows of entity_neighbours, one after the other.

    Attributes:
        entity_nos: whose rows.
        lengths: how many neighbours each has.
        numbers: int64, of all neighbours.
        scores: float32, as many.
    """

    entity_nos: Sequence[int]
    lengths: Sequence[int]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Situation:
    """All that an answer starts from, of one snapshot.

    Attributes:
        looked_at: the entities of the request's context that there are, in its order; without
            attributes.
        neighbours: of the first entities of the context and the history.
        seen: types and ids that the user has seen; None where they are too many to be listed.
        read_at: when that was, by PostgreSQL's clock.
    """

    versions: Versions
    read_at: datetime
    user: UserContext
    looked_at: tuple[EntityRow, ...]
    neighbours: NeighbourRows
    seen: tuple[Sequence[str], Sequence[str]] | None


class UserStore:
    """The user_profiles table and what is read beside it, for one tenant a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stamp(self, tenant_id: str, user_id: str) -> Stamp:
        """What an answer for a user ("" is nobody) depends on, as far as this host knows."""
        return self._database.slots.stamp(tenant_id, user_id)

    def holds(self, stamp: Stamp) -> bool:
        """Whether nothing has changed since, and PostgreSQL is there to have it changed."""
        return not self._database.is_away and self._database.slots.holds(stamp)

    async def context(self, tenant: Tenant, user_id: str) -> UserContext:
        """A user's profile and recent history in one round trip; "" for nobody."""
        return (await self.situation(tenant, user_id)).user

    async def situation(
        self,
        tenant: Tenant,
        user_id: str,
        *,
        looked_at: Sequence[EntityKey] = (),
        interactions: int = 200,
        vectors: int = 30,
        neighbours_of: int = 0,
    ) -> Situation:
        """What an answer for a user starts from, in one round trip.

        Args:
            user_id: the user; "" for nobody.
            looked_at: names of the request's context.
            interactions: how many of the latest interactions form the history.
            vectors: of how many of the latest entities the feature vectors are read.
            neighbours_of: of how many entities, the context's first, the neighbours are read.
        """
        most = max(interactions, _MOST_SEEN)
        async with self._database.connection(tenant.tenant_id, keep_plans=True) as connection:
            row = await connection.fetchrow(
                user_situation(tenant.placement),
                tenant.tenant_id,
                tenant.version,
                user_id,
                tenant.settings.segment_attribute or None,
                interactions,
                vectors,
                tenant.seen_types,
                [entity_type for entity_type, _ in looked_at],
                [entity_id for _, entity_id in looked_at],
                neighbours_of,
                most,
            )
        assert row is not None
        seen = [
            (entity_type, entity_id)
            for entity_type, entity_id, seen in zip(
                row["entity_types"] or (), row["entity_ids"] or (), row["seen"] or (), strict=True
            )
            if seen
        ]
        return Situation(
            versions=_versions(row),
            read_at=row["read_at"],
            user=UserContext(
                interaction_count=row["interaction_count"] or 0,
                accumulator=row["accumulator"],
                history=_history(row, vectors) if row["revision"] is not None else (),
                segment=row["segment"] or "",
            ),
            looked_at=_looked_at(row),
            neighbours=NeighbourRows(
                row["anchor_nos"] or (),
                row["lengths"] or (),
                array_elements(row["neighbour_nos"], ">i8"),
                array_elements(row["scores"], ">f4"),
            ),
            seen=([t for t, _ in seen], [i for _, i in seen])
            if (row["row_count"] or 0) < most
            else None,
        )

    async def preference(
        self, tenant: Tenant, user_id: str
    ) -> tuple[NDArray[np.float32] | None, int] | None:
        """A user's accumulator and interaction count; None for a user never seen."""
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["get_preference"], tenant.tenant_id, tenant.version, user_id
            )
        return None if row is None else (row["accumulator"], row["interaction_count"])

    async def nearest(
        self,
        tenant: Tenant,
        vector: NDArray[np.float32],
        *,
        without_user: str = "",
        without_seen: tuple[str, str] | None = None,
        limit: int,
    ) -> list[ScoredUserRow]:
        """Users whose preference vectors are nearest to a vector, searched exactly."""
        entity_type, entity_id = without_seen or (None, None)
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["nearest_users"],
                tenant.tenant_id,
                tenant.version,
                vector,
                without_user,
                entity_type,
                entity_id,
                limit,
            )
        return [ScoredUserRow(r["user_id"], r["score"], r["interaction_count"]) for r in rows]

    async def same_segment(self, tenant: Tenant, user_id: str, limit: int) -> list[ScoredUserRow]:
        """Users of the same learned segment, nearest first; none where the user has no segment."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["same_segment_users"], tenant.tenant_id, tenant.version, user_id, limit
            )
        return [ScoredUserRow(r["user_id"], r["score"], r["interaction_count"]) for r in rows]

    async def replace_segments(self, tenant: Tenant, segments: Sequence[UserSegment]) -> None:
        """Swaps the learned segments of a tenant's users for new ones, in one transaction."""
        async with self._database.transaction(tenant.tenant_id) as connection:
            await connection.execute(
                _ENTITIES["guard_write"], tenant.tenant_id, tenant.tenant_no, tenant.version
            )
            await connection.execute(_SQL["clear_segments"], tenant.tenant_id)
            for start in range(0, len(segments), _SEGMENTS_A_STATEMENT):
                some = segments[start : start + _SEGMENTS_A_STATEMENT]
                await connection.execute(
                    _SQL["insert_segments"],
                    tenant.tenant_id,
                    [s.user_id for s in some],
                    [s.segment for s in some],
                    halfvec_array([s.factors for s in some]),
                )

    async def bump(self, tenant: Tenant, like_pattern: str) -> int:
        """Makes cached answers of users by a LIKE pattern unusable; returns of how many users."""
        async with self._database.connection(tenant.tenant_id) as connection:
            changed(connection, tenant.tenant_id)
            return int(
                await connection.fetchval(_SQL["bump_users"], tenant.tenant_id, like_pattern)
            )


class ProfileMaintenance:
    """Background work on the profiles of all tenants (maintenance role)."""

    def __init__(self, maintenance: Database) -> None:
        self._maintenance = maintenance

    async def refresh_preferences(self, limit: int) -> int:
        """Refreshes the preference vectors of up to `limit` changed profiles; returns how many."""
        async with self._maintenance.connection(None) as connection:
            return int(await connection.fetchval(_SQL["refresh_preferences"], limit))

    async def take_rebuilds(self, limit: int) -> list[tuple[str, Sequence[str]]]:
        """Takes up to `limit` entities off the rebuild list: (tenant_id, user ids) to rebuild.

        The caller rebuilds at once; what a crash loses is taken up when the entity changes next.
        """
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["take_profile_rebuilds"], limit)
        users: dict[str, list[str]] = {}
        for row in rows:
            users.setdefault(row["tenant_id"], []).append(row["user_id"])
        return list(users.items())
