"""Measuring: entities and bytes of the tenants that have a quota of them."""

import structlog

from jobs.context import JobContext
from storage.exceptions import PenchantError

_log = structlog.get_logger(__name__)


async def measure_tenants(context: JobContext) -> None:
    """One round; a tenant that cannot be measured does not keep the others from it."""
    for tenant in await context.all_tenants():
        if tenant.quotas.entities or tenant.quotas.stored_bytes:
            try:
                await context.quotas.measure(tenant.tenant_id)
            except PenchantError as error:
                _log.warning("not measured", tenant_id=tenant.tenant_id, error=error.message)
    await context.quotas.purge()
