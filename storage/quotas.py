"""What tenants may use and what they use: limits in their rows, counts beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storage.database import Connection, Database
from storage.exceptions import NotFound, QuotaExceeded
from storage.queries import load
from storage.sessions import changed
from storage.tenants import Quotas, Tenant

_SQL = load("quotas")
_INTERACTIONS = load("interactions")

_DAY_SECS = 86400.0
_MEASURE_SECS = 600.0
_SOON_SECS = 60.0
"""When to try again where it depends on what the tenant deletes."""


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """What a tenant uses; days are of UTC.

    Attributes:
        stored_bytes: as measured, an estimate for rows.
        measured_at: when entities and bytes were last measured; None: never.
    """

    entities: int = 0
    interactions: int = 0
    training_secs: float = 0.0
    stored_bytes: int = 0
    measured_at: datetime | None = None


async def check_ingest(connection: Connection, tenant: Tenant, ids: Sequence[str]) -> None:
    """Refuses a batch of interactions before its work where the tenant's quotas are used up.

    One whose ids are all stored already passes: it will only be acknowledged again.

    Raises:
        QuotaExceeded: stored_bytes or interactions_per_day.
        StaleTenant: the tenant's row has changed.
    """
    usage = await _read(connection, tenant)
    try:
        _check_bytes(tenant, usage, 0)
        if 0 < tenant.quotas.interactions_per_day <= usage.interactions:
            raise _exceeded(tenant, "interactions_per_day")
    except QuotaExceeded:
        known = await connection.fetch(_INTERACTIONS["get_keys"], tenant.tenant_id, list(ids))
        if len(known) < len(set(ids)):
            raise


async def check_bytes(connection: Connection, tenant: Tenant, more: int = 0) -> None:
    """Refuses what would store bytes beyond the tenant's quota, by the last measurement.

    Raises:
        QuotaExceeded: stored_bytes.
        StaleTenant: the tenant's row has changed.
    """
    if tenant.quotas.stored_bytes:
        _check_bytes(tenant, await _read(connection, tenant), more)


async def check_training(connection: Connection, tenant: Tenant) -> None:
    """Refuses a training where the tenant's minutes of the day or its bytes are used up.

    Raises:
        QuotaExceeded: training_minutes_per_day or stored_bytes.
        StaleTenant: the tenant's row has changed.
    """
    usage = await _read(connection, tenant)
    if 0 < tenant.quotas.training_minutes_per_day * 60 <= usage.training_secs:
        raise _exceeded(tenant, "training_minutes_per_day")
    _check_bytes(tenant, usage, 0)


async def use(
    connection: Connection, tenant: Tenant, *, interactions: int = 0, entities: int = 0
) -> None:
    """Counts what a transaction stores; must be its last statement that takes a lock.

    Transactions under way at the same time do not see each other: so many may go beyond together.

    Args:
        entities: that came; negative: that went.

    Raises:
        QuotaExceeded: interactions_per_day or entities; the transaction must not be committed.
    """
    quotas = tenant.quotas
    interactions = interactions if quotas.interactions_per_day else 0
    entities = entities if quotas.entities else 0
    if not interactions and not entities:
        return
    row = await connection.fetchrow(_SQL["use_quota"], tenant.tenant_id, interactions, entities)
    assert row is not None
    if interactions > 0 and row["interactions"] > quotas.interactions_per_day:
        raise _exceeded(tenant, "interactions_per_day")
    if entities > 0 and row["entities"] > quotas.entities:
        raise _exceeded(tenant, "entities")


async def _read(connection: Connection, tenant: Tenant) -> QuotaUsage:
    return _usage(await connection.fetchrow(_SQL["read_usage"], tenant.tenant_id, tenant.version))


def _usage(row: Any) -> QuotaUsage:
    return QuotaUsage(
        entities=max(0, row["entities"]),
        interactions=row["interactions"],
        training_secs=row["training_secs"],
        stored_bytes=row["stored_bytes"],
        measured_at=row["measured_at"],
    )


def _check_bytes(tenant: Tenant, usage: QuotaUsage, more: int) -> None:
    limit = tenant.quotas.stored_bytes
    if limit and (usage.stored_bytes >= limit or usage.stored_bytes + more > limit):
        raise _exceeded(tenant, "stored_bytes")


_TEXTS = {
    "entities": "may store {limit:,} entities",
    "interactions_per_day": "may store {limit:,} interactions a day",
    "training_minutes_per_day": "may train for {limit:,.10g} minutes a day",
    "stored_bytes": "may store {limit:,} bytes",
}


def _exceeded(tenant: Tenant, quota: str) -> QuotaExceeded:
    limit = getattr(tenant.quotas, quota)
    until_midnight = _DAY_SECS - datetime.now(UTC).timestamp() % _DAY_SECS
    return QuotaExceeded(
        tenant.tenant_id,
        quota,
        limit,
        f"The tenant {_TEXTS[quota].format(limit=limit)}.",
        retry_after=until_midnight if quota.endswith("_per_day") else _SOON_SECS,
    )


class QuotaStore:
    """Limits and usage of tenants.

    Args:
        service: connections that see one tenant at a time.
        maintenance: connections that see all tenants.
    """

    def __init__(self, service: Database, maintenance: Database) -> None:
        self._service = service
        self._maintenance = maintenance

    async def set(self, tenant_id: str, quotas: Quotas) -> None:
        """Stores limits; what is counted from now on is first counted as it stands.

        Raises:
            NotFound: there is no such tenant (TENANT_NOT_FOUND).
        """
        async with self._maintenance.connection(None) as connection:
            changed(connection, tenant_id)
            found = await connection.fetchval(_SQL["set_quotas"], tenant_id, quotas.to_json())
            if found is None:
                raise NotFound(
                    f"There is no tenant {tenant_id!r}.",
                    reason="TENANT_NOT_FOUND",
                    metadata={"tenant_id": tenant_id},
                )
            if quotas.interactions_per_day:
                await connection.execute(
                    _SQL["seed_interactions"], tenant_id, timeout=_MEASURE_SECS
                )
        if quotas.entities or quotas.stored_bytes:
            await self.measure(tenant_id)

    async def measure(self, tenant_id: str) -> None:
        """Counts a tenant's entities and weighs what it stores; reads all its rows."""
        async with self._maintenance.connection(None) as connection:
            await connection.execute(_SQL["measure"], tenant_id, timeout=_MEASURE_SECS)

    async def usage(self, tenant: Tenant) -> QuotaUsage:
        """What a tenant uses, as it is counted; StaleTenant when its row has changed."""
        async with self._maintenance.connection(None) as connection:
            return await _read(connection, tenant)

    async def interactions_today(self, tenant_id: str) -> int:
        """Interactions stored today that are still there, for tenants without a quota of them."""
        async with self._maintenance.connection(None) as connection:
            return int(await connection.fetchval(_SQL["interactions_today"], tenant_id))

    async def check_bytes(self, tenant: Tenant, more: int) -> None:
        """As the function of this name, on a connection of its own."""
        if tenant.quotas.stored_bytes:
            async with self._service.connection(tenant.tenant_id) as connection:
                await check_bytes(connection, tenant, more)

    async def purge(self) -> None:
        """Forgets what was used on past days."""
        async with self._maintenance.connection(None) as connection:
            await connection.execute(_SQL["purge_usage"])
