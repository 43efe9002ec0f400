"""Housekeeping: old keys, predictions and versions, partitions to come, erased tenants."""

from datetime import UTC, datetime, timedelta

import structlog

from jobs.context import JobContext
from storage.artefacts import sweep
from storage.exceptions import NotFound

MONTHS_AHEAD = 2

_log = structlog.get_logger(__name__)


async def keep_house(context: JobContext) -> None:
    """One round: partitions first, since ingest depends on them."""
    await context.retention.ensure_interaction_partitions(MONTHS_AHEAD)
    window = timedelta(days=context.settings.idempotency_window_days)
    await context.retention.purge_keys(datetime.now(UTC) - window)
    await context.predictions.purge_expired()
    for tenant in await context.all_tenants():
        try:
            removed = await context.with_tenant(tenant, context.models.clean_up)
        except NotFound:
            continue  # its erasure has begun meanwhile
        if removed:
            names = [f"{row.model_name}@{row.version}" for row in removed]
            _log.info("model versions removed", tenant_id=tenant.tenant_id, versions=names)
    for tenant_id in await context.retention.erasing():
        await context.retention.erase(tenant_id)
        _log.info("tenant erased", tenant_id=tenant_id)
    # After the erasures: what their rows named goes in the same round.
    swept = await sweep(context.artefacts, context.models.hashes_in_use)
    if swept.artefacts:
        _log.info("artefacts removed", artefacts=swept.artefacts, size_bytes=swept.size_bytes)
