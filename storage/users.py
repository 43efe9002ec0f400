"""Users: profiles, recent history and who is like whom."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.entities import EntityKey
from storage.queries import load, situations
from storage.sessions import changed
from storage.situations import (
    MOST_SEEN,
    VECTORS,
    Recalled,
    Situation,
    UserContext,
    context_of,
    read_situation,
    recall_situation,
)
from storage.tenants import Tenant
from storage.vector_codecs import halfvec_array
from storage.version_slots import Stamp

_SQL = load("users")
_ENTITIES = load("entities")
_SEGMENTS_A_STATEMENT = 5_000


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

    def stands(self, stamp: Stamp) -> bool:
        """Whether nothing was withdrawn since: callers who take older answers may have this."""
        return self._database.slots.stands(stamp)

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
        neighbours_of: int = 0,
    ) -> Situation:
        """What an answer for a user starts from, in one round trip.

        Args:
            user_id: the user; "" for nobody.
            looked_at: names of the request's context.
            interactions: how many of the latest interactions form the history.
            neighbours_of: of how many entities, the context's first, the neighbours are read.
        """
        row = await self._situation_row(
            tenant, user_id, looked_at, interactions, VECTORS, neighbours_of
        )
        return read_situation(row, interactions, neighbours_of)

    async def recalled_situation(
        self,
        tenant: Tenant,
        user_id: str,
        recalled: Recalled,
        *,
        looked_at: Sequence[EntityKey] = (),
        interactions: int = 200,
        neighbours_of: int = 0,
    ) -> Situation | None:
        """The same, where vectors of the history and neighbours are remembered, and not read.

        Returns:
            None where what is recalled does not suffice, or is of another revision.
        """
        if looked_at:
            row = await self._situation_row(tenant, user_id, looked_at, interactions, 0, 0)
            return recall_situation(row, recalled, interactions, neighbours_of, context_of(row))
        async with self._database.connection(tenant.tenant_id, keep_plans=True) as connection:
            row = await connection.fetchrow(
                situations(tenant.placement)["recalled_situation"],
                *_who(tenant, user_id, interactions),
            )
        return recall_situation(row, recalled, interactions, neighbours_of)

    async def _situation_row(
        self,
        tenant: Tenant,
        user_id: str,
        looked_at: Sequence[EntityKey],
        interactions: int,
        vectors: int,
        neighbours_of: int,
    ) -> Any:
        async with self._database.connection(tenant.tenant_id, keep_plans=True) as connection:
            row = await connection.fetchrow(
                situations(tenant.placement)["user_situation"],
                *_who(tenant, user_id, interactions),
                vectors,
                [entity_type for entity_type, _ in looked_at],
                [entity_id for _, entity_id in looked_at],
                neighbours_of,
            )
        assert row is not None
        return row

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
            changed(connection, tenant.tenant_id, withdraws=True)
            return int(
                await connection.fetchval(_SQL["bump_users"], tenant.tenant_id, like_pattern)
            )


def _who(tenant: Tenant, user_id: str, interactions: int) -> Sequence[Any]:
    """The first arguments of the statements of `sql/situations.sql`."""
    return (
        tenant.tenant_id,
        tenant.version,
        user_id,
        tenant.settings.segment_attribute or None,
        interactions,
        tenant.seen_types,
        max(interactions, MOST_SEEN),
    )


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Entities of a tenant that got their vectors late, and whose profiles that concerns.

    Attributes:
        entries: type, id, and when the entity was put on the list.
    """

    tenant_id: str
    user_ids: set[str]
    entries: list[tuple[str, str, datetime]]


class ProfileMaintenance:
    """Background work on the profiles of all tenants (maintenance role)."""

    def __init__(self, maintenance: Database) -> None:
        self._maintenance = maintenance

    async def refresh_preferences(self, limit: int) -> int:
        """Refreshes the preference vectors of up to `limit` changed profiles; returns how many."""
        async with self._maintenance.connection(None) as connection:
            return int(await connection.fetchval(_SQL["refresh_preferences"], limit))

    async def rebuilds(self, limit: int, without: Collection[str]) -> list[Rebuild]:
        """Up to `limit` entities of the rebuild list, by tenant, but for those of some tenants."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["list_profile_rebuilds"], limit, list(without))
        found: dict[str, Rebuild] = {}
        for row in rows:
            rebuild = found.setdefault(row["tenant_id"], Rebuild(row["tenant_id"], set(), []))
            rebuild.user_ids.update(row["user_ids"])
            rebuild.entries.append((row["entity_type"], row["entity_id"], row["requested_at"]))
        return list(found.values())

    async def rebuilt(self, rebuild: Rebuild) -> None:
        """Takes entities off the list, but for those that were put on it again meanwhile."""
        columns = [list(column) for column in zip(*rebuild.entries, strict=True)]
        async with self._maintenance.connection(None) as connection:
            await connection.execute(_SQL["end_profile_rebuilds"], rebuild.tenant_id, *columns)
