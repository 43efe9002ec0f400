"""A placement of its own for each tenant that has outgrown the shared one."""

import structlog

from jobs.context import JobContext
from jobs.tenant_turns import TenantTurns

_log = structlog.get_logger(__name__)


async def move_crowded_tenants(context: JobContext) -> None:
    """Requests the moves that are due, and goes on with all that are not finished.

    Raises:
        Exception: the first move's failure, after all others have been tried.
    """
    await context.placements.request_crowded(context.settings.own_placement_threshold)
    turns = TenantTurns("placements")
    for tenant_id in await context.placements.unfinished():
        with turns.of(tenant_id):
            await context.placements.move(tenant_id)
            _log.info("tenant has a placement of its own", tenant_id=tenant_id)
    turns.end()
