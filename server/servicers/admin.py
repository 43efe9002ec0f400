"""AdminService."""

from typing import Any

import grpc
from penchant.v1 import admin_pb2 as pb
from penchant.v1.admin_pb2_grpc import AdminServiceServicer

from engine.administration import Administration, TenantDraft
from engine.audit import AuditLog
from engine.catalogue import check_key
from engine.identifiers import check_page_size
from engine.ingest import subject
from engine.integrity import Integrity
from engine.quotas import TenantQuotas
from server.convert import fill_duration, fill_timestamp, to_seconds
from server.paging import hash_of, key_token, number_key, text_key
from storage.audit import AuditEvent
from storage.database import Database
from storage.exceptions import InvalidArgument
from storage.migrations import MigrationRunner
from storage.quotas import QuotaUsage
from storage.redis_cache import CacheStats, RedisCache
from storage.tenants import InteractionType, Quotas, Tenant

_DEFAULT_PAGE_SIZE = 50
_UNKNOWN = {pb.UNKNOWN_ENTITIES_ACCEPT: "accept", pb.UNKNOWN_ENTITIES_REFUSE: "refuse"}
_UNKNOWN_NUMBERS = {name: number for number, name in _UNKNOWN.items()}
_Context = grpc.aio.ServicerContext[Any, Any]


def _parse_tenant(message: pb.Tenant) -> TenantDraft:
    given = message.settings
    settings: dict[str, Any] = {}
    if given.unknown_entities:
        # A number that this release does not know stays one, and is refused by its name.
        settings["unknown_entities"] = _UNKNOWN.get(
            given.unknown_entities, str(given.unknown_entities)
        )
    if given.HasField("trending_window"):
        settings["trending_window_secs"] = to_seconds(given.trending_window)
    if given.HasField("trending_half_life"):
        settings["trending_half_life_secs"] = to_seconds(given.trending_half_life)
    if given.source_weights:
        settings["source_weights"] = dict(given.source_weights)
    if given.segment_attribute:
        settings["segment_attribute"] = given.segment_attribute
    half_life = message.profile_half_life
    return TenantDraft(
        tenant_id=message.tenant_id,
        display_name=message.display_name,
        dimension=message.dimension or None,
        profile_half_life_secs=to_seconds(half_life)
        if message.HasField("profile_half_life")
        else None,
        settings=settings,
    )


def _render_tenant(tenant: Tenant, target: pb.Tenant) -> None:
    target.tenant_id, target.display_name = tenant.tenant_id, tenant.display_name
    target.dimension, target.placement = tenant.dimension, tenant.placement
    target.state = pb.TENANT_STATE_ACTIVE
    fill_duration(target.profile_half_life, tenant.profile_half_life_secs)
    settings = tenant.settings
    target.settings.unknown_entities = _UNKNOWN_NUMBERS[settings.unknown_entities]
    fill_duration(target.settings.trending_window, settings.trending_window_secs)
    fill_duration(target.settings.trending_half_life, settings.trending_half_life_secs)
    target.settings.source_weights.update(settings.source_weights)
    target.settings.segment_attribute = settings.segment_attribute
    fill_timestamp(target.created_at, tenant.created_at)
    fill_timestamp(target.updated_at, tenant.updated_at)


def _render_type(kind: InteractionType, target: pb.InteractionType) -> None:
    target.interaction_type, target.weight = kind.interaction_type, kind.weight
    target.marks_seen = kind.marks_seen


def _parse_quotas(message: pb.Quotas) -> Quotas:
    return Quotas(
        requests_per_second=message.requests_per_second,
        burst=message.burst,
        entities=message.entities,
        interactions_per_day=message.interactions_per_day,
        training_minutes_per_day=message.training_minutes_per_day,
        stored_bytes=message.stored_bytes,
    )


def _render_quotas(quotas: Quotas, target: pb.Quotas) -> None:
    target.requests_per_second, target.burst = quotas.requests_per_second, quotas.burst
    target.entities, target.stored_bytes = quotas.entities, quotas.stored_bytes
    target.interactions_per_day = quotas.interactions_per_day
    target.training_minutes_per_day = quotas.training_minutes_per_day


def _render_usage(usage: QuotaUsage, target: pb.QuotaUsage) -> None:
    target.entities, target.stored_bytes = usage.entities, usage.stored_bytes
    target.interactions_today = usage.interactions
    target.training_minutes_today = usage.training_secs / 60
    fill_timestamp(target.measured_at, usage.measured_at)


def _render_event(event: AuditEvent, target: pb.AuditEvent) -> None:
    entry = event.entry
    target.event_id, target.actor, target.method = event.event_id, entry.actor, entry.method
    target.tenant_id, target.target, target.code = entry.tenant_id, entry.target, entry.code
    target.peer, target.request_id = entry.peer, entry.request_id
    fill_timestamp(target.occurred_at, event.occurred_at)


class AdminServicer(AdminServiceServicer):
    """What operators do."""

    def __init__(
        self,
        administration: Administration,
        migrations: MigrationRunner,
        database: Database,
        cache: RedisCache | None,
        quotas: TenantQuotas,
        audit: AuditLog,
        integrity: Integrity,
    ) -> None:
        self._administration = administration
        self._migrations = migrations
        self._database = database
        self._cache = cache
        self._quotas = quotas
        self._audit = audit
        self._integrity = integrity

    async def CreateTenant(
        self, request: pb.CreateTenantRequest, context: _Context
    ) -> pb.CreateTenantResponse:
        """Makes a tenant."""
        tenant = await self._administration.create_tenant(_parse_tenant(request.tenant))
        response = pb.CreateTenantResponse()
        _render_tenant(tenant, response.tenant)
        return response

    async def GetTenant(
        self, request: pb.GetTenantRequest, context: _Context
    ) -> pb.GetTenantResponse:
        """One tenant by id."""
        response = pb.GetTenantResponse()
        _render_tenant(await self._administration.get_tenant(request.tenant_id), response.tenant)
        return response

    async def ListTenants(
        self, request: pb.ListTenantsRequest, context: _Context
    ) -> pb.ListTenantsResponse:
        """A page of tenants in byte order."""
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, "")
        (after,) = text_key(request.page_token, "tenants", hashed, 1) or ("",)
        tenants = await self._administration.page_of_tenants(after, size + 1)
        response = pb.ListTenantsResponse()
        for tenant in tenants[:size]:
            _render_tenant(tenant, response.tenants.add())
        if len(tenants) > size:
            response.next_page_token = key_token("tenants", hashed, [tenants[size - 1].tenant_id])
        return response

    async def UpdateTenant(
        self, request: pb.UpdateTenantRequest, context: _Context
    ) -> pb.UpdateTenantResponse:
        """Changes a tenant's name and settings."""
        paths = frozenset(request.update_mask.paths) or None
        tenant = await self._administration.update_tenant(_parse_tenant(request.tenant), paths)
        response = pb.UpdateTenantResponse()
        _render_tenant(tenant, response.tenant)
        return response

    async def DeleteTenant(
        self, request: pb.DeleteTenantRequest, context: _Context
    ) -> pb.DeleteTenantResponse:
        """Erases a tenant."""
        await self._administration.delete_tenant(request.tenant_id)
        return pb.DeleteTenantResponse()

    async def PlaceTenant(
        self, request: pb.PlaceTenantRequest, context: _Context
    ) -> pb.PlaceTenantResponse:
        """Asks for a placement of the tenant's own."""
        move = await self._administration.request_placement(request.tenant_id)
        return pb.PlaceTenantResponse(
            placement=move.placement, phase=move.phase, index_share=move.index_share
        )

    async def SetInteractionType(
        self, request: pb.SetInteractionTypeRequest, context: _Context
    ) -> pb.SetInteractionTypeResponse:
        """Makes or changes an interaction type."""
        given = request.interaction_type
        kind = await self._administration.set_interaction_type(
            request.tenant_id,
            given.interaction_type,
            given.weight,
            given.marks_seen if given.HasField("marks_seen") else None,
        )
        response = pb.SetInteractionTypeResponse()
        _render_type(kind, response.interaction_type)
        return response

    async def ListInteractionTypes(
        self, request: pb.ListInteractionTypesRequest, context: _Context
    ) -> pb.ListInteractionTypesResponse:
        """A tenant's interaction types."""
        tenant = await self._administration.get_tenant(request.tenant_id)
        response = pb.ListInteractionTypesResponse()
        for name in sorted(tenant.interaction_types):
            _render_type(tenant.interaction_types[name], response.interaction_types.add())
        return response

    async def DeleteInteractionType(
        self, request: pb.DeleteInteractionTypeRequest, context: _Context
    ) -> pb.DeleteInteractionTypeResponse:
        """Removes an interaction type."""
        await self._administration.delete_interaction_type(
            request.tenant_id, request.interaction_type
        )
        return pb.DeleteInteractionTypeResponse()

    async def GetMigrationVersion(
        self, request: pb.GetMigrationVersionRequest, context: _Context
    ) -> pb.GetMigrationVersionResponse:
        """The schema's version."""
        return pb.GetMigrationVersionResponse(
            version=await self._migrations.get_current_version(),
            pending_count=len(await self._migrations.pending()),
        )

    async def ListMigrations(
        self, request: pb.ListMigrationsRequest, context: _Context
    ) -> pb.ListMigrationsResponse:
        """The applied migrations."""
        response = pb.ListMigrationsResponse()
        for applied in await self._migrations.list_applied_migrations():
            added = response.migrations.add(
                version=applied.version, description=applied.description, success=applied.success
            )
            fill_timestamp(added.installed_on, applied.installed_on)
            added.execution_time.FromNanoseconds(max(0, applied.execution_time))
        return response

    async def RunMigrations(
        self, request: pb.RunMigrationsRequest, context: _Context
    ) -> pb.RunMigrationsResponse:
        """Applies what is pending."""
        applied = await self._migrations.run_migrations()
        return pb.RunMigrationsResponse(applied_versions=[m.version for m in applied])

    async def GetPoolStats(
        self, request: pb.GetPoolStatsRequest, context: _Context
    ) -> pb.GetPoolStatsResponse:
        """The pool of this worker."""
        stats = self._database.pool_stats()
        return pb.GetPoolStatsResponse(size=stats.size, idle=stats.idle)

    async def GetCacheStats(
        self, request: pb.GetCacheStatsRequest, context: _Context
    ) -> pb.GetCacheStatsResponse:
        """The cache's counters of this worker."""
        stats = CacheStats(0, 0, 0, False, 0)
        if self._cache is not None:
            stats = await self._cache.stats()
        return pb.GetCacheStatsResponse(
            hits=stats.hits,
            misses=stats.misses,
            errors=stats.errors,
            available=stats.available,
            memory_bytes=stats.memory_bytes,
        )

    async def InvalidateCache(
        self, request: pb.InvalidateCacheRequest, context: _Context
    ) -> pb.InvalidateCacheResponse:
        """Makes cached answers unusable."""
        target = request.WhichOneof("target")
        count = 0
        if target == "user_id":
            user_id = subject(request.user_id, "")
            count = await self._administration.invalidate_user(request.tenant_id, user_id)
        elif target == "pattern":
            count = await self._administration.invalidate_pattern(
                request.tenant_id, request.pattern
            )
        elif target == "entity":
            check_key(request.entity.entity_type, request.entity.entity_id)
            await self._administration.invalidate_all(request.tenant_id)
        elif request.all:
            await self._administration.invalidate_all(request.tenant_id)
        elif target == "all":
            raise InvalidArgument.field("all", "must be true")
        else:
            raise InvalidArgument.field("target", "needs user_id, entity, pattern or all")
        return pb.InvalidateCacheResponse(users_count=count)

    async def GetIndexStats(
        self, request: pb.GetIndexStatsRequest, context: _Context
    ) -> pb.GetIndexStatsResponse:
        """A tenant's vector index."""
        stats = await self._administration.index_stats(request.tenant_id)
        response = pb.GetIndexStatsResponse(
            placement=stats.placement,
            entity_count=stats.entity_count,
            vector_count=stats.vector_count,
            index_name=stats.index_name,
            index_bytes=stats.index_bytes,
            index_scans=stats.index_scans,
            table_bytes=stats.table_bytes,
            recall=stats.recall,
            ef_search=stats.ef_search,
        )
        fill_timestamp(response.recall_measured_at, stats.recall_measured_at)
        return response

    async def GetQuotas(
        self, request: pb.GetQuotasRequest, context: _Context
    ) -> pb.GetQuotasResponse:
        """What a tenant may use, and what it uses."""
        quotas, usage = await self._quotas.get(request.tenant_id)
        response = pb.GetQuotasResponse()
        _render_quotas(quotas, response.quotas)
        _render_usage(usage, response.usage)
        return response

    async def SetQuotas(
        self, request: pb.SetQuotasRequest, context: _Context
    ) -> pb.SetQuotasResponse:
        """What a tenant may use from now on."""
        if not request.HasField("quotas"):
            raise InvalidArgument.field("quotas", "is required")
        quotas = await self._quotas.set(request.tenant_id, _parse_quotas(request.quotas))
        response = pb.SetQuotasResponse()
        _render_quotas(quotas, response.quotas)
        return response

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: _Context
    ) -> pb.ListAuditEventsResponse:
        """A page of what was administrated, the newest first."""
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, "")
        before = number_key(request.page_token, "audit", hashed)
        events = await self._audit.page(request.tenant_id, before, size + 1)
        response = pb.ListAuditEventsResponse()
        for event in events[:size]:
            _render_event(event, response.events.add())
        if len(events) > size:
            response.next_page_token = key_token("audit", hashed, [events[size - 1].event_id])
        return response

    async def VerifyIntegrity(
        self, request: pb.VerifyIntegrityRequest, context: _Context
    ) -> pb.VerifyIntegrityResponse:
        """Whether a tenant's data fits together."""
        tenant = await self._administration.get_tenant(request.tenant_id)
        response = pb.VerifyIntegrityResponse(sound=True)
        for found in await self._integrity.verify(tenant):
            response.checks.add(
                check=found.check,
                examined_count=found.examined,
                problem_count=found.problems,
                examples=found.examples,
                remedy=found.remedy,
            )
            response.sound &= not found.problems
        return response
