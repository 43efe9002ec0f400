"""The event log: idempotent ingest, listing, deletion and merging."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import log
from typing import Any, Literal

from storage.database import Connection, Database
from storage.queries import load
from storage.quotas import check_ingest, use
from storage.sessions import changed
from storage.tenants import Tenant
from storage.tombstones import merge_is_refused

_SQL = load("interactions")

REBUILD_SLICE = 500
"""Users whose profiles one statement makes anew."""


@dataclass(slots=True)
class InteractionRow:
    """An interaction, checked and complete. Not frozen, for speed alone, as drafts.

    Attributes:
        metadata: JSON text or None.
        payload_hash: of what the caller sent, before defaults: the idempotency check.
        touches_profile: whether the user's profile or seen entities change.
        user_hash: of the user, where the tenant has erased users; they are looked for by it.
        entity_hash: likewise of an entity that is a user.
    """

    interaction_id: str
    user_id: str
    entity_type: str
    entity_id: str
    interaction_type: str
    weight: float
    timestamp: datetime
    metadata: str | None = None
    recommendation_id: str | None = None
    position: int | None = None
    payload_hash: bytes = b""
    touches_profile: bool = True
    received_at: datetime | None = None
    user_hash: bytes | None = None
    entity_hash: bytes | None = None


@dataclass(slots=True)
class IngestOutcome:
    """What became of one row: stored now, stored before (duplicate), or refused. Not frozen.

    Attributes:
        transaction_id: number of the transaction that stored it, or of the latest one where it was
            stored before; 0 where refused.
    """

    status: Literal["stored", "duplicate", "conflict", "unknown_entity", "erased"]
    received_at: datetime | None = None
    transaction_id: int = 0


def decay_rate(tenant: Tenant) -> float:
    """The profile's decay a second: ln 2 / half-life."""
    return log(2) / tenant.profile_half_life_secs


def _interaction(row: Any) -> InteractionRow:
    return InteractionRow(
        interaction_id=row["interaction_id"],
        user_id=row["user_id"],
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        interaction_type=row["interaction_type"],
        weight=row["weight"],
        timestamp=row["timestamp"],
        metadata=row["metadata_text"],
        recommendation_id=row["recommendation_id"],
        position=row["position"],
        received_at=row["received_at"],
    )


class InteractionStore:
    """The interactions table, its idempotency keys, and the profiles that follow from it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ingest(self, tenant: Tenant, rows: Sequence[InteractionRow]) -> list[IngestOutcome]:
        """Stores a batch in one statement and one transaction.

        Raises:
            QuotaExceeded: the tenant may not store that much; nothing was stored.
            StaleTenant: the tenant's row is no longer the one given; nothing was stored.
            ValueError: the tenant has erased users, and a row comes without its user's hash.
        """
        hashed = tenant.has_erased_users
        if hashed and not all(r.user_hash for r in rows):
            raise ValueError("rows of a tenant with erased users need the hashes of theirs")
        quotas = tenant.quotas
        limited = bool(quotas.interactions_per_day or quotas.entities or quotas.stored_bytes)
        begin = self._database.transaction if limited else self._database.connection
        async with begin(tenant.tenant_id) as connection:
            if limited:
                await check_ingest(connection, tenant, [r.interaction_id for r in rows])
            changed(connection, tenant.tenant_id, (r.user_id for r in rows if r.touches_profile))
            records = await connection.fetch(
                _SQL["ingest_interactions"],
                tenant.tenant_id,
                tenant.tenant_no,
                tenant.version,
                tenant.placement,
                [r.interaction_id for r in rows],
                [r.user_id for r in rows],
                [r.entity_type for r in rows],
                [r.entity_id for r in rows],
                [r.interaction_type for r in rows],
                [r.weight for r in rows],
                [r.metadata for r in rows],
                [r.timestamp for r in rows],
                [r.recommendation_id for r in rows],
                [r.position for r in rows],
                [r.payload_hash for r in rows],
                [r.touches_profile for r in rows],
                tenant.settings.unknown_entities == "accept",
                decay_rate(tenant),
                [r.user_hash for r in rows] if hashed else None,
                [r.entity_hash for r in rows] if hashed else None,
            )
            late = {
                row.interaction_id
                for row, record in zip(rows, records, strict=True)
                if record["payload_hash"] is None
                and not (record["unknown_entity"] or record["refused"])
            }
            keys = (
                {
                    k["interaction_id"]: k
                    for k in await connection.fetch(_SQL["get_keys"], tenant.tenant_id, list(late))
                }
                if late
                else {}
            )
            outcomes = _outcomes(rows, records, keys)
            if limited:
                stored = sum(outcome.status == "stored" for outcome in outcomes)
                stubs = records[0]["stub_count"]
                await use(connection, tenant, interactions=stored, entities=stubs)
        return outcomes

    async def page_by_user(
        self,
        tenant: Tenant,
        user_id: str,
        *,
        interaction_type: str | None,
        before: tuple[datetime, str],
        limit: int,
    ) -> list[InteractionRow]:
        """One user's interactions before a (timestamp, interaction_id), newest first."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_interactions_by_user"],
                tenant.tenant_id,
                tenant.version,
                user_id,
                interaction_type,
                *before,
                limit,
            )
        return [_interaction(row) for row in rows]

    async def page_by_entity(
        self,
        tenant: Tenant,
        key: tuple[str, str],
        *,
        interaction_type: str | None,
        before: tuple[datetime, str],
        limit: int,
    ) -> list[InteractionRow]:
        """One entity's interactions before a (timestamp, interaction_id), newest first."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_interactions_by_entity"],
                tenant.tenant_id,
                tenant.version,
                *key,
                interaction_type,
                *before,
                limit,
            )
        return [_interaction(row) for row in rows]

    async def delete(
        self,
        tenant: Tenant,
        *,
        user_id: str | None,
        entity: tuple[str, str] | None,
        interaction_ids: Sequence[str] | None,
        before: datetime | None,
    ) -> tuple[int, int]:
        """Removes interactions that satisfy every given condition; rebuilds their users' profiles.

        Returns:
            How many were removed, and the transaction's number.
        """
        entity_type, entity_id = entity or (None, None)
        async with self._database.transaction(tenant.tenant_id) as connection:
            transaction_id = await self._guard(connection, tenant)
            users = await connection.fetch(
                _SQL["delete_interactions"],
                tenant.tenant_id,
                user_id,
                entity_type,
                entity_id,
                interaction_ids,
                before,
            )
            await rebuild_profiles(connection, tenant, [row["user_id"] for row in users])
        return sum(row["deleted_count"] for row in users), transaction_id

    async def merge(
        self, tenant: Tenant, source: str, target: str, hashes: Sequence[bytes] = ()
    ) -> tuple[int, int] | None:
        """Moves a user's interactions to another and rebuilds both profiles.

        Args:
            hashes: of the two users, where the tenant has erased users.

        Returns:
            How many were moved, and the transaction's number; None where one of them was erased.
        """
        if tenant.has_erased_users and not hashes:
            raise ValueError("users of a tenant with erased ones need their hashes")
        async with self._database.transaction(tenant.tenant_id) as connection:
            transaction_id = await self._guard(connection, tenant)
            if hashes and await merge_is_refused(connection, tenant.tenant_id, hashes, source):
                return None
            # Both profiles first: an ingest for either waits, and is added to what is rebuilt here.
            await connection.execute(_SQL["lock_profiles"], tenant.tenant_id, [source, target])
            moved = await connection.fetchval(
                _SQL["move_interactions"], tenant.tenant_id, source, target
            )
            await rebuild_profiles(connection, tenant, [source, target])
        return int(moved), transaction_id

    async def rebuild_profiles(self, tenant: Tenant, user_ids: Sequence[str]) -> None:
        """Makes users' profiles anew from the log."""
        async with self._database.transaction(tenant.tenant_id) as connection:
            await self._guard(connection, tenant)
            await rebuild_profiles(connection, tenant, user_ids)

    async def _guard(self, connection: Connection, tenant: Tenant) -> int:
        await connection.execute(
            load("entities")["guard_write"], tenant.tenant_id, tenant.tenant_no, tenant.version
        )
        return int(await connection.fetchval(_SQL["current_transaction"]))


async def rebuild_profiles(connection: Connection, tenant: Tenant, user_ids: Sequence[str]) -> None:
    """Makes users' profiles anew from the log, as a part of the caller's guarded transaction."""
    ordered = sorted(set(user_ids))
    changed(connection, tenant.tenant_id, ordered)
    for start in range(0, len(ordered), REBUILD_SLICE):
        some = ordered[start : start + REBUILD_SLICE]
        await connection.execute(_SQL["lock_profiles"], tenant.tenant_id, some)
        await connection.execute(
            _SQL["rebuild_profiles"],
            tenant.tenant_id,
            tenant.placement,
            some,
            decay_rate(tenant),
        )
        await connection.execute(_SQL["delete_empty_profiles"], tenant.tenant_id, some)


def _outcomes(
    rows: Sequence[InteractionRow], records: Sequence[Any], keys: dict[str, Any]
) -> list[IngestOutcome]:
    outcomes: list[IngestOutcome] = []
    claimed: set[str] = set()
    for row, record in zip(rows, records, strict=True):
        if record["refused"]:
            outcomes.append(IngestOutcome("erased"))
            continue
        known = record if record["payload_hash"] is not None else keys.get(row.interaction_id)
        if record["unknown_entity"] and known is None:
            outcomes.append(IngestOutcome("unknown_entity"))
            continue
        assert known is not None
        first = record["stored"] and row.interaction_id not in claimed
        if known["payload_hash"] != row.payload_hash:
            outcomes.append(IngestOutcome("conflict"))
            continue
        claimed.add(row.interaction_id)
        outcomes.append(
            IngestOutcome(
                "stored" if first else "duplicate", known["received_at"], known["transaction_id"]
            )
        )
    return outcomes
