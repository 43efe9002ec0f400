"""Housekeeping: old idempotency keys, partitions for the months to come, erased tenants."""

from datetime import UTC, datetime, timedelta

import structlog

from jobs.context import JobContext

MONTHS_AHEAD = 2

_log = structlog.get_logger(__name__)


async def keep_house(context: JobContext) -> None:
    """One round: partitions first, since ingest depends on them."""
    await context.retention.ensure_interaction_partitions(MONTHS_AHEAD)
    window = timedelta(days=context.settings.idempotency_window_days)
    await context.retention.purge_keys(datetime.now(UTC) - window)
    for tenant_id in await context.retention.erasing():
        await context.retention.erase(tenant_id)
        _log.info("tenant erased", tenant_id=tenant_id)
