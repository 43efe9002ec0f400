"""Measuring: entities and bytes of the tenants that have a quota of them."""

from jobs.context import JobContext
from jobs.tenant_turns import TenantTurns


async def measure_tenants(context: JobContext) -> None:
    """One round.

    Raises:
        Exception: the first tenant's failure, after all others have been measured.
    """
    turns = TenantTurns("quotas")
    for tenant in await context.all_tenants():
        if tenant.quotas.entities or tenant.quotas.stored_bytes:
            with turns.of(tenant.tenant_id):
                await context.quotas.measure(tenant.tenant_id)
    await context.quotas.purge()
    turns.end()
