"""Requests of AdminService."""

from collections.abc import Sequence
from datetime import timedelta

from penchant.requests.parts import Ref, duration, entity_ref, field_mask, one_of
from penchant.v1 import admin_pb2 as admin


def create_tenant(
    tenant_id: str,
    *,
    display_name: str = "",
    dimension: int = 0,
    profile_half_life: timedelta | None = None,
    settings: admin.TenantSettings | None = None,
) -> admin.CreateTenantRequest:
    """Makes a tenant; `dimension` 512 and `profile_half_life` 30 days when left out."""
    return admin.CreateTenantRequest(
        tenant=admin.Tenant(
            tenant_id=tenant_id,
            display_name=display_name,
            dimension=dimension,
            profile_half_life=duration(profile_half_life),
            settings=settings,
        )
    )


def get_tenant(tenant_id: str) -> admin.GetTenantRequest:
    """One tenant; NotFound when there is none of that name."""
    return admin.GetTenantRequest(tenant_id=tenant_id)


def list_tenants(*, page_size: int = 0) -> admin.ListTenantsRequest:
    """All tenants in byte order of their ids, fetched `page_size` (50 when 0) at a time."""
    return admin.ListTenantsRequest(page_size=page_size)


def update_tenant(
    tenant_id: str,
    *,
    display_name: str | None = None,
    settings: admin.TenantSettings | None = None,
    update_mask: Sequence[str] | None = None,
) -> admin.UpdateTenantRequest:
    """Changes what is given; `update_mask` may name single settings (`settings.FIELD`)."""
    if update_mask is None:
        given = {"display_name": display_name, "settings": settings}
        update_mask = [name for name, value in given.items() if value is not None]
    return admin.UpdateTenantRequest(
        tenant=admin.Tenant(
            tenant_id=tenant_id, display_name=display_name or "", settings=settings
        ),
        update_mask=field_mask(update_mask or None),
    )


def delete_tenant(tenant_id: str) -> admin.DeleteTenantRequest:
    """Erases a tenant; its name is never used again."""
    return admin.DeleteTenantRequest(tenant_id=tenant_id)


def place_tenant(tenant_id: str) -> admin.PlaceTenantRequest:
    """Asks for a partition and a vector index of the tenant's own."""
    return admin.PlaceTenantRequest(tenant_id=tenant_id)


def set_interaction_type(
    tenant_id: str, interaction_type: str, weight: float, *, marks_seen: bool | None = None
) -> admin.SetInteractionTypeRequest:
    """Makes or changes an interaction type; a negative weight is a dislike."""
    return admin.SetInteractionTypeRequest(
        tenant_id=tenant_id,
        interaction_type=admin.InteractionType(
            interaction_type=interaction_type, weight=weight, marks_seen=marks_seen
        ),
    )


def list_interaction_types(tenant_id: str) -> admin.ListInteractionTypesRequest:
    """A tenant's interaction types by name."""
    return admin.ListInteractionTypesRequest(tenant_id=tenant_id)


def delete_interaction_type(
    tenant_id: str, interaction_type: str
) -> admin.DeleteInteractionTypeRequest:
    """Removes a type; its interactions stay."""
    return admin.DeleteInteractionTypeRequest(
        tenant_id=tenant_id, interaction_type=interaction_type
    )


def get_migration_version() -> admin.GetMigrationVersionRequest:
    """The schema's version and how many migrations are pending."""
    return admin.GetMigrationVersionRequest()


def list_migrations() -> admin.ListMigrationsRequest:
    """The applied migrations, oldest first."""
    return admin.ListMigrationsRequest()


def run_migrations() -> admin.RunMigrationsRequest:
    """Applies what is pending; ask with a timeout that is long enough."""
    return admin.RunMigrationsRequest()


def get_pool_stats() -> admin.GetPoolStatsRequest:
    """The connection pool of the worker that answers."""
    return admin.GetPoolStatsRequest()


def get_cache_stats() -> admin.GetCacheStatsRequest:
    """The result cache's counters of the worker that answers."""
    return admin.GetCacheStatsRequest()


def invalidate_cache(
    tenant_id: str,
    *,
    user_id: str | None = None,
    entity: Ref | None = None,
    pattern: str | None = None,
) -> admin.InvalidateCacheRequest:
    """Makes cached answers unusable: of a user, an entity, users by glob, or (none given) all."""
    target = one_of(
        user_id=user_id, entity=None if entity is None else entity_ref(entity), pattern=pattern
    )
    return admin.InvalidateCacheRequest(tenant_id=tenant_id, **(target or {"all": True}))


def get_index_stats(tenant_id: str) -> admin.GetIndexStatsRequest:
    """Size and use of a tenant's vector index."""
    return admin.GetIndexStatsRequest(tenant_id=tenant_id)


def verify_integrity(tenant_id: str) -> admin.VerifyIntegrityRequest:
    """Whether a tenant's data fits together; it may take minutes, so give it a timeout."""
    return admin.VerifyIntegrityRequest(tenant_id=tenant_id)


def get_quotas(tenant_id: str) -> admin.GetQuotasRequest:
    """What a tenant may use, and what it uses."""
    return admin.GetQuotasRequest(tenant_id=tenant_id)


def set_quotas(
    tenant_id: str,
    *,
    requests_per_second: float = 0,
    burst: float = 0,
    entities: int = 0,
    interactions_per_day: int = 0,
    training_minutes_per_day: float = 0,
    stored_bytes: int = 0,
) -> admin.SetQuotasRequest:
    """All of a tenant's limits; 0, as for what is left out, is no limit."""
    return admin.SetQuotasRequest(
        tenant_id=tenant_id,
        quotas=admin.Quotas(
            requests_per_second=requests_per_second,
            burst=burst,
            entities=entities,
            interactions_per_day=interactions_per_day,
            training_minutes_per_day=training_minutes_per_day,
            stored_bytes=stored_bytes,
        ),
    )


def list_audit_events(tenant_id: str = "", *, page_size: int = 0) -> admin.ListAuditEventsRequest:
    """What was administrated, of one tenant or all, the newest first."""
    return admin.ListAuditEventsRequest(tenant_id=tenant_id, page_size=page_size)
