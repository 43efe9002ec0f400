"""Entities: read, written and listed in the tenant's placement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.database import Connection, Database
from storage.exceptions import Aborted
from storage.queries import load
from storage.quotas import check_bytes, use
from storage.sessions import changed
from storage.tenants import Tenant
from storage.tombstones import erased_among
from storage.vector_codecs import halfvec_array

_SQL = load("entities")
_TENANT_SQL = load("tenants")

EntityKey: TypeAlias = tuple[str, str]
"""(entity_type, entity_id)."""

Look: TypeAlias = tuple[str, str, str]
"""What an entity looks like: its type, its id, its attributes as JSON text."""


@dataclass(frozen=True, slots=True)
class EntityRow:
    """An entity as stored.

    Attributes:
        attributes: JSON text of an object.
        feature_vector: float16, shape (dimension,), or None; None too where it was not asked for.
        vector_given: the caller gave the vector, so that changed attributes leave it alone.
    """

    entity_type: str
    entity_id: str
    attributes: str = "{}"
    feature_vector: NDArray[np.float16] | None = None
    vector_given: bool = False
    hidden: bool = False
    stub: bool = False
    available_from: datetime | None = None
    available_until: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    entity_no: int = 0

    @property
    def key(self) -> EntityKey:
        """(entity_type, entity_id)."""
        return (self.entity_type, self.entity_id)


Change: TypeAlias = Callable[[EntityRow | None], EntityRow | None]
"""Makes an entity's new state from its present one (None: there is none); None changes nothing."""


def _entity(row: Any) -> EntityRow:
    return EntityRow(
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        attributes=row["attributes_text"],
        feature_vector=row["feature_vector"],
        vector_given=row["vector_given"],
        hidden=row["hidden"],
        stub=row["stub"],
        available_from=row["available_from"],
        available_until=row["available_until"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        entity_no=row["entity_no"],
    )


def _columns(rows: Sequence[EntityRow]) -> list[Any]:
    return [
        [r.entity_type for r in rows],
        [r.entity_id for r in rows],
        [r.attributes for r in rows],
        halfvec_array(r.feature_vector for r in rows),
        [r.vector_given for r in rows],
        [r.hidden for r in rows],
        [r.available_from for r in rows],
        [r.available_until for r in rows],
    ]


class EntityStore:
    """The entities table, for one tenant a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(
        self,
        tenant: Tenant,
        changes: Mapping[EntityKey, Change],
        user_hashes: Mapping[EntityKey, bytes] | None = None,
    ) -> dict[EntityKey, tuple[EntityRow, bool]]:
        """Changes entities in one transaction, each from its locked present state.

        Args:
            user_hashes: of those names that are users, where the tenant has erased users: a name
                whose user was erased is left out.

        Returns:
            For each name the stored state (without vector) and whether it is new (a stub counts as
            not there).

        Raises:
            StaleTenant: the tenant's row is no longer the one given.
            Aborted: a name that did not exist was created meanwhile; repeat the call.
            QuotaExceeded: the tenant may not store that much; nothing was changed.
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            present = await self._lock(connection, tenant, list(changes))
            await check_bytes(connection, tenant)
            hashes = user_hashes or {}
            erased = await erased_among(connection, tenant.tenant_id, list(hashes.values()))
            states = {
                key: state
                for key, change in changes.items()
                if hashes.get(key) not in erased and (state := change(present.get(key))) is not None
            }
            stamps: dict[EntityKey, tuple[datetime, datetime]] = {}
            for name, rows in (
                ("update_entities", [r for key, r in states.items() if key in present]),
                ("insert_entities", [r for key, r in states.items() if key not in present]),
            ):
                if not rows:
                    continue
                written = await connection.fetch(
                    _SQL[name], tenant.placement, tenant.tenant_id, *_columns(rows)
                )
                if len(written) != len(rows):
                    raise Aborted("An entity was created or deleted by another call meanwhile.")
                for row in written:
                    key = (row["entity_type"], row["entity_id"])
                    stamps[key] = (row["created_at"], row["updated_at"])
            late = [
                key
                for key, row in states.items()
                if row.feature_vector is not None
                and key in present
                and present[key].feature_vector is None
            ]
            if late:
                await connection.execute(
                    _SQL["request_profile_rebuilds"],
                    tenant.tenant_id,
                    [t for t, _ in late],
                    [i for _, i in late],
                )
            changed(connection, tenant.tenant_id)
            await connection.execute(_TENANT_SQL["bump_catalogue"], tenant.tenant_id)
            await use(connection, tenant, entities=len(states.keys() - present.keys()))
        return {
            key: (
                replace(
                    row,
                    feature_vector=None,
                    stub=False,
                    created_at=stamps[key][0],
                    updated_at=stamps[key][1],
                ),
                key not in present or present[key].stub,
            )
            for key, row in states.items()
        }

    async def _lock(
        self, connection: Connection, tenant: Tenant, keys: Sequence[EntityKey]
    ) -> dict[EntityKey, EntityRow]:
        guard = (tenant.tenant_id, tenant.tenant_no, tenant.version)
        # In a statement of its own: the next one's snapshot is then later than the lock.
        await connection.execute(_SQL["guard_write"], *guard)
        rows = await connection.fetch(
            _SQL["lock_entities"],
            *guard,
            tenant.placement,
            [entity_type for entity_type, _ in keys],
            [entity_id for _, entity_id in keys],
        )
        return {(row["entity_type"], row["entity_id"]): _entity(row) for row in rows}

    async def get(self, tenant: Tenant, keys: Sequence[EntityKey]) -> dict[EntityKey, EntityRow]:
        """Entities by name, vectors included; names that do not exist are absent."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["get_entities"],
                tenant.tenant_id,
                tenant.version,
                tenant.placement,
                [entity_type for entity_type, _ in keys],
                [entity_id for _, entity_id in keys],
            )
        return {(row["entity_type"], row["entity_id"]): _entity(row) for row in rows}

    async def page(
        self,
        tenant: Tenant,
        *,
        after: EntityKey,
        entity_type: str | None,
        filter_path: str | None,
        filter_variables: str | None,
        limit: int,
    ) -> list[EntityRow]:
        """Entities after a name in byte order, without vectors."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_entities"],
                tenant.tenant_id,
                tenant.version,
                tenant.placement,
                *after,
                entity_type,
                filter_path,
                filter_variables,
                limit,
            )
        return [_entity(row) for row in rows]

    async def delete(self, tenant: Tenant, key: EntityKey) -> bool:
        """Removes an entity; False when there was none."""
        begin = self._database.transaction if tenant.quotas.entities else self._database.connection
        async with begin(tenant.tenant_id) as connection:
            changed(connection, tenant.tenant_id)
            number = await connection.fetchval(
                _SQL["delete_entity"],
                tenant.tenant_id,
                tenant.tenant_no,
                tenant.version,
                tenant.placement,
                *key,
            )
            if number is not None:
                await use(connection, tenant, entities=-1)
        return number is not None
