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
    failed: set[str] = set()
    while rebuilds := await context.profiles.rebuilds(_ENTITIES, failed):
        for rebuild in rebuilds:
            failed.add(rebuild.tenant_id)
            with turns.of(rebuild.tenant_id):
                await _rebuild(context, rebuild.tenant_id, sorted(rebuild.user_ids))
                # Only now: what fails, or is lost with its process, is done in a later run.
                await context.profiles.rebuilt(rebuild)
                failed.remove(rebuild.tenant_id)
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
