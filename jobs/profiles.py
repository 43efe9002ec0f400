"""Users' profiles: rebuilt where an entity got its vector late, their vectors made searchable."""

from functools import partial

from jobs.context import JobContext
from jobs.tenant_turns import TenantTurns
from storage.interactions import REBUILD_SLICE
from storage.tenants import Tenant

_ENTITIES = 100
_PROFILES = 1_000


async def refresh_profiles(context: JobContext) -> None:
    """Works until no profile waits to be rebuilt or refreshed.

    Raises:
        Exception: the first tenant's failure, after all others have had their turn.
    """
    turns = TenantTurns("profiles")
    while taken := await context.profiles.take_rebuilds(_ENTITIES):
        for tenant_id, user_ids in taken:
            with turns.of(tenant_id):
                await _rebuild(context, tenant_id, list(user_ids))
    while await context.profiles.refresh_preferences(_PROFILES) == _PROFILES:
        pass
    turns.end()


async def _rebuild(context: JobContext, tenant_id: str, user_ids: list[str]) -> None:
    tenant = await context.tenants.get(tenant_id)
    # A transaction a slice: the users' next events wait for one of them only.
    for start in range(0, len(user_ids), REBUILD_SLICE):
        some = user_ids[start : start + REBUILD_SLICE]
        await context.with_tenant(tenant, partial(_rebuild_some, context, some))


async def _rebuild_some(context: JobContext, user_ids: list[str], tenant: Tenant) -> None:
    await context.interactions.rebuild_profiles(tenant, user_ids)
