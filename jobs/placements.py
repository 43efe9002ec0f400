"""A placement of its own for each tenant that has outgrown the shared one."""

import structlog

from jobs.context import JobContext
from storage.exceptions import PenchantError

_log = structlog.get_logger(__name__)


async def move_crowded_tenants(context: JobContext) -> None:
    """Requests the moves that are due, and goes on with all that are not finished.

    Raises:
        PenchantError: the first move's failure, after all others have been tried.
    """
    await context.placements.request_crowded(context.settings.own_placement_threshold)
    failure: PenchantError | None = None
    for tenant_id in await context.placements.unfinished():
        try:
            await context.placements.move(tenant_id)
        except PenchantError as error:
            _log.warning("move interrupted", tenant_id=tenant_id, error=error.message)
            failure = failure or error
        else:
            _log.info("tenant has a placement of its own", tenant_id=tenant_id)
    if failure is not None:
        raise failure
