"""Housekeeping: old keys and predictions, partitions to come, erased tenants, unused artefacts."""

from datetime import UTC, datetime, timedelta

import structlog

from jobs.context import JobContext
from storage.artefacts import sweep

MONTHS_AHEAD = 2

_log = structlog.get_logger(__name__)


async def keep_house(context: JobContext) -> None:
    """One round: partitions first, since ingest depends on them."""
    await context.retention.ensure_interaction_partitions(MONTHS_AHEAD)
    window = timedelta(days=context.settings.idempotency_window_days)
    await context.retention.purge_keys(datetime.now(UTC) - window)
    await context.predictions.purge_expired()
    for tenant_id in await context.retention.erasing():
        await context.retention.erase(tenant_id)
        _log.info("tenant erased", tenant_id=tenant_id)
    # After the erasures: what their rows named goes in the same round.
    swept = await sweep(context.artefacts, context.models.hashes_in_use)
    if swept.artefacts:
        _log.info("artefacts removed", artefacts=swept.artefacts, size_bytes=swept.size_bytes)
