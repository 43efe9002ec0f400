"""What the jobs compute over a tenant's interactions: trending, popular, neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from storage.database import Connection, Database
from storage.queries import load
from storage.sessions import changed
from storage.tenants import Tenant

_SQL = load("trends")
_ENTITIES = load("entities")
_INTERACTIONS = load("interactions")
_TENANTS = load("tenants")


POPULAR_OVER = 1_000_000
"""How many of a tenant's latest positive interactions popularity looks at."""


@dataclass(frozen=True, slots=True)
class PreferenceTriples:
    """Who interacted positively with what: three arrays of one length.

    Attributes:
        read_at: what was stored by then is among them, by PostgreSQL's clock.
        users: int32, numbered from 0 for this reading.
        entities: int64 entity numbers.
        weights: float32, summed a pair.
    """

    read_at: datetime
    users: NDArray[np.int32]
    entities: NDArray[np.int64]
    weights: NDArray[np.float32]


Neighbours = Iterator[tuple[int, list[int], list[float]]]
"""(entity_no, neighbour numbers, their scores), strongest first."""


async def _guard(connection: Connection, tenant: Tenant) -> None:
    """Keeps a move or erasure out until the transaction ends; StaleTenant when there was one."""
    await connection.execute(
        _ENTITIES["guard_write"], tenant.tenant_id, tenant.tenant_no, tenant.version
    )


class TrendStore:
    """Reads interactions of whole tenants and replaces what follows from them."""

    def __init__(self, maintenance: Database) -> None:
        self._maintenance = maintenance

    async def latest_ingests(self, since: datetime) -> dict[str, datetime]:
        """When tenants ingested something last, of those that did since an instant."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_INTERACTIONS["latest_ingests"], since)
        return {row["tenant_id"]: row["received_at"] for row in rows}

    async def finished_at(self, job: str) -> dict[str, datetime]:
        """By tenant, up to when what it ingested is in what a job last made."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["job_finished_at"], job)
        return {row["tenant_id"]: row["finished_at"] for row in rows}

    async def refresh_trending(self, tenant: Tenant, keep: int = 1000) -> int:
        """Counts trending and popular entities anew; returns how many are trending.

        Where nothing is other than it was, cached answers stay good.
        """
        settings = tenant.settings
        async with self._maintenance.transaction(None) as connection:
            await connection.execute(_SQL["plan_for_whole_tenants"])
            await _guard(connection, tenant)
            trending = await connection.fetchrow(
                _SQL["refresh_trending"],
                tenant.tenant_id,
                settings.trending_window_secs,
                settings.trending_half_life_secs,
                keep,
            )
            popular = await connection.fetchval(
                _SQL["refresh_popular"],
                tenant.tenant_id,
                settings.segment_attribute or None,
                keep,
                POPULAR_OVER,
            )
            assert trending is not None
            if trending["changed"] or popular:
                changed(connection, tenant.tenant_id)
                await connection.execute(
                    _TENANTS["bump_catalogue_as_maintenance"], tenant.tenant_id
                )
            await connection.execute(_SQL["finish_job"], tenant.tenant_id, "trending", "", None)
        return int(trending["kept"])

    async def preferences(self, tenant: Tenant, limit: int) -> PreferenceTriples:
        """The latest `limit` positive interactions of a tenant, through a cursor into arrays."""
        users: list[NDArray[np.int32]] = []
        entities: list[NDArray[np.int64]] = []
        weights: list[NDArray[np.float32]] = []
        async with self._maintenance.transaction(None) as connection:
            await connection.execute(_SQL["plan_for_whole_tenants"])
            read_at = await connection.fetchval(_SQL["present"])
            cursor = await connection.cursor(_SQL["read_preferences"], tenant.tenant_id, limit)
            while rows := await cursor.fetch(50_000):
                users.append(np.fromiter((r[0] for r in rows), np.int32, len(rows)))
                entities.append(np.fromiter((r[1] for r in rows), np.int64, len(rows)))
                weights.append(np.fromiter((r[2] for r in rows), np.float32, len(rows)))
        return PreferenceTriples(
            read_at,
            np.concatenate([np.empty(0, np.int32), *users]),
            np.concatenate([np.empty(0, np.int64), *entities]),
            np.concatenate([np.empty(0, np.float32), *weights]),
        )

    async def replace_neighbours(
        self, tenant: Tenant, neighbours: Neighbours, read_at: datetime
    ) -> None:
        """Swaps a tenant's item-to-item neighbours for new ones, in one transaction.

        Args:
            read_at: of the preferences that they were computed from.
        """
        async with self._maintenance.transaction(None) as connection:
            await _guard(connection, tenant)
            await connection.execute(_SQL["clear_neighbours"], tenant.tenant_id)
            # Not COPY: PostgreSQL refuses it under row-level security.
            await connection.executemany(
                _SQL["insert_neighbours"],
                ((tenant.tenant_id, no, nos, scores) for no, nos, scores in neighbours),
            )
            changed(connection, tenant.tenant_id)
            await connection.execute(_TENANTS["bump_catalogue_as_maintenance"], tenant.tenant_id)
            await connection.execute(
                _SQL["finish_job"], tenant.tenant_id, "neighbours", "", read_at
            )
