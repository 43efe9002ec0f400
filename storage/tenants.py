"""Tenants: their rows, settings and interaction types."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from storage.database import Database
from storage.exceptions import AlreadyExists, NotFound
from storage.queries import load
from storage.sessions import EF_SEARCH, changed

_SQL = load("tenants")


class TenantSettings(BaseModel):
    """What a tenant may tune; stored as JSON in `tenants.settings`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    unknown_entities: Literal["accept", "refuse"] = "accept"
    trending_window_secs: float = Field(default=7 * 86400.0, ge=3600, le=365 * 86400)
    trending_half_life_secs: float = Field(default=2 * 86400.0, ge=60, le=365 * 86400)
    source_weights: dict[str, float] = Field(default_factory=dict)
    segment_attribute: str = ""


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a tenant may use; 0 is no limit.

    Attributes:
        requests_per_second: calls that are taken in the long run, over all workers.
        burst: calls that may come at once; 0: those of one second.
        entities: that may be stored, stubs included.
        interactions_per_day: that are stored a day (UTC).
        training_minutes_per_day: for which trainings may run a day (UTC).
        stored_bytes: that rows and artefacts may take together.
    """

    requests_per_second: float = 0.0
    burst: float = 0.0
    entities: int = 0
    interactions_per_day: int = 0
    training_minutes_per_day: float = 0.0
    stored_bytes: int = 0

    @classmethod
    def from_json(cls, text: str) -> "Quotas":
        """From `tenants.quotas`; what this release does not know is left out."""
        stored = orjson.loads(text)
        return cls(**{name: stored[name] for name in cls.__slots__ if name in stored})

    def to_json(self) -> str:
        """JSON of the limits that there are."""
        return orjson.dumps({name: n for name, n in asdict(self).items() if n}).decode()


NO_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True)
class InteractionType:
    """A kind of interaction: what it adds to a profile, and whether its entity is then seen."""

    interaction_type: str
    weight: float
    marks_seen: bool


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as one version of its row says.

    Attributes:
        version: changes with every change of the row or its interaction types; statements check it.
        placement: the partition of the tenant's entities; 0 is shared.
        dimension: length of its feature vectors.
        quotas: what it may use.
        has_erased_users: whether writers must hash the users' ids, to be told of erased ones.
        ef_search: how widely its HNSW index is searched.
    """

    tenant_id: str
    tenant_no: int
    display_name: str
    placement: int
    dimension: int
    profile_half_life_secs: float
    settings: TenantSettings
    version: int
    created_at: datetime
    updated_at: datetime
    interaction_types: Mapping[str, InteractionType] = field(hash=False)
    quotas: Quotas = NO_QUOTAS
    has_erased_users: bool = False
    ef_search: int = EF_SEARCH

    @property
    def seen_types(self) -> list[str]:
        """Interaction types that keep an entity out of later answers, in byte order."""
        return sorted(t.interaction_type for t in self.interaction_types.values() if t.marks_seen)


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """How far a tenant's move to a placement of its own has got.

    Attributes:
        placement: where the tenant is now.
        phase: see `storage.placements`; done where there is nothing to do.
        index_share: how much of the index is built, 0 to 1; None while none is.
    """

    placement: int
    phase: str
    index_share: float | None


@dataclass(frozen=True, slots=True)
class IndexStats:
    """Size (bytes) and use of a tenant's placement, counted since PostgreSQL's statistics began.

    Attributes:
        recall: of the index, as last measured; None without an index, and before the first time.
        ef_search: how widely the index is searched; 0 without one.
    """

    placement: int
    entity_count: int
    vector_count: int
    index_name: str
    index_bytes: int
    index_scans: int
    table_bytes: int
    recall: float | None
    recall_measured_at: datetime | None
    ef_search: int


def _tenant(row: Any) -> Tenant:
    types = {
        name: InteractionType(name, float(weight), bool(marks_seen))
        for name, (weight, marks_seen) in orjson.loads(row["interaction_types"]).items()
    }
    return Tenant(
        tenant_id=row["tenant_id"],
        tenant_no=row["tenant_no"],
        display_name=row["display_name"],
        placement=row["placement"],
        dimension=row["dimension"],
        profile_half_life_secs=row["profile_half_life_secs"],
        settings=TenantSettings.model_validate_json(row["settings"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        interaction_types=MappingProxyType(types),
        quotas=Quotas.from_json(row["quotas"]),
        has_erased_users=row["has_erased_users"],
        ef_search=row["ef_search"],
    )


def _not_found(tenant_id: str) -> NotFound:
    return NotFound(
        f"There is no tenant {tenant_id!r}.",
        reason="TENANT_NOT_FOUND",
        metadata={"tenant_id": tenant_id},
    )


class TenantStore:
    """Reads tenants as the service role, and changes them as the maintenance role.

    Args:
        service: connections that see one tenant at a time.
        maintenance: connections that see all tenants; for administration only.
    """

    def __init__(self, service: Database, maintenance: Database) -> None:
        self._service = service
        self._maintenance = maintenance

    async def get(self, tenant_id: str) -> Tenant:
        """One tenant.

        Raises:
            NotFound: there is none, or it is being erased (TENANT_NOT_FOUND).
        """
        async with self._service.connection(tenant_id) as connection:
            row = await connection.fetchrow(_SQL["get_tenant"], tenant_id)
        if row is None:
            raise _not_found(tenant_id)
        tenant = _tenant(row)
        self._service.search_widths.note(tenant_id, tenant.ef_search)
        return tenant

    async def page(self, after: str, limit: int) -> list[Tenant]:
        """Tenants after an id, in byte order."""
        async with self._maintenance.connection(None) as connection:
            return [_tenant(r) for r in await connection.fetch(_SQL["list_tenants"], after, limit)]

    async def only(self) -> tuple[int, str | None]:
        """How many tenants there are, counted to 2, and the first one's id."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(_SQL["count_tenants"])
        assert row is not None
        return row["tenant_count"], row["tenant_id"]

    async def create(
        self,
        tenant_id: str,
        *,
        display_name: str = "",
        dimension: int = 512,
        profile_half_life_secs: float = 30 * 86400.0,
        settings: TenantSettings | None = None,
    ) -> Tenant:
        """Makes a tenant with the default interaction types.

        Raises:
            AlreadyExists: the name is, or ever was, in use.
        """
        stored = (settings or TenantSettings()).model_dump_json()
        async with self._maintenance.transaction(None) as connection:
            made = await connection.fetch(
                _SQL["create_tenant"],
                tenant_id,
                display_name,
                dimension,
                profile_half_life_secs,
                stored,
            )
        if not made:
            raise AlreadyExists(
                f"The tenant id {tenant_id!r} is or was in use.",
                reason="TENANT_EXISTS",
                metadata={"tenant_id": tenant_id},
            )
        return await self.get(tenant_id)

    async def update(
        self, tenant_id: str, *, display_name: str, settings: TenantSettings
    ) -> Tenant:
        """Changes a tenant's name for people and its settings; NotFound when there is none."""
        async with self._maintenance.connection(None) as connection:
            changed(connection, tenant_id)
            found = await connection.fetchval(
                _SQL["update_tenant"], tenant_id, display_name, settings.model_dump_json()
            )
        if found is None:
            raise _not_found(tenant_id)
        return await self.get(tenant_id)

    async def begin_erasure(self, tenant_id: str) -> None:
        """Refuses the tenant from now on; its rows go in the background. NotFound for none."""
        async with self._maintenance.connection(None) as connection:
            changed(connection, tenant_id, withdraws=True)
            if await connection.fetchval(_SQL["begin_erasure"], tenant_id) is None:
                raise _not_found(tenant_id)

    async def set_interaction_type(
        self, tenant_id: str, interaction_type: str, weight: float, marks_seen: bool | None
    ) -> InteractionType:
        """Makes or changes an interaction type; NotFound when there is no such tenant."""
        async with self._maintenance.transaction(None) as connection:
            changed(connection, tenant_id)
            if await connection.fetchval(_SQL["touch_tenant"], tenant_id) is None:
                raise _not_found(tenant_id)
            row = await connection.fetchrow(
                _SQL["set_interaction_type"], tenant_id, interaction_type, weight, marks_seen
            )
        assert row is not None
        return InteractionType(row["interaction_type"], row["weight"], row["marks_seen"])

    async def delete_interaction_type(self, tenant_id: str, interaction_type: str) -> None:
        """Removes an interaction type; NotFound when the tenant or the type is unknown."""
        async with self._maintenance.transaction(None) as connection:
            changed(connection, tenant_id)
            if await connection.fetchval(_SQL["touch_tenant"], tenant_id) is None:
                raise _not_found(tenant_id)
            gone = await connection.fetchval(
                _SQL["delete_interaction_type"], tenant_id, interaction_type
            )
            if gone is None:
                raise NotFound(f"The tenant has no interaction type {interaction_type!r}.")

    async def bump_catalogue(self, tenant_id: str) -> None:
        """Makes every cached answer of a tenant unusable."""
        async with self._service.connection(tenant_id) as connection:
            changed(connection, tenant_id, withdraws=True)
            await connection.execute(_SQL["bump_catalogue"], tenant_id)

    async def request_placement(self, tenant_id: str) -> MoveProgress:
        """Asks for a placement of the tenant's own, and says how far that has got."""
        async with self._maintenance.transaction(None) as connection:
            await connection.execute(load("placements")["request_move"], tenant_id)
            row = await connection.fetchrow(_SQL["placement_phase"], tenant_id)
        if row is None:
            raise _not_found(tenant_id)
        return MoveProgress(row["placement"], row["phase"] or "done", row["index_share"])

    async def index_stats(self, tenant_id: str) -> IndexStats:
        """Size and use of a tenant's vector index; NotFound when there is no such tenant."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(_SQL["index_stats"], tenant_id)
        if row is None:
            raise _not_found(tenant_id)
        return IndexStats(
            placement=row["placement"],
            entity_count=row["entity_count"],
            vector_count=row["vector_count"],
            index_name=row["index_name"] or "",
            index_bytes=row["index_bytes"],
            index_scans=row["index_scans"],
            table_bytes=row["table_bytes"],
            recall=row["recall"],
            recall_measured_at=row["measured_at"],
            ef_search=row["ef_search"],
        )
