"""Housekeeping: old keys, predictions and versions, partitions to come, erased tenants."""

from datetime import UTC, datetime, timedelta

import structlog

from jobs.context import JobContext
from jobs.tenant_erasure import erase_tenant
from jobs.tenant_turns import TenantTurns
from jobs.tombstones import enforce_tombstones
from storage.artefacts import sweep

MONTHS_AHEAD = 2
DAYS_AHEAD = 3
"""Days of the answer log whose partitions are made before they begin."""

_log = structlog.get_logger(__name__)


async def keep_house(context: JobContext) -> None:
    """One round: partitions first, since ingest depends on them.

    Raises:
        Exception: the first failure of a tenant's, after all else has been done.
    """
    await context.retention.ensure_interaction_partitions(MONTHS_AHEAD)
    await context.retention.ensure_answer_partitions(DAYS_AHEAD)
    now = datetime.now(UTC)
    await context.retention.purge_keys(
        now - timedelta(days=context.settings.idempotency_window_days)
    )
    await context.retention.drop_answers(now - timedelta(days=context.settings.answer_log_days))
    if context.settings.audit_days:
        await context.retention.purge_audit(now - timedelta(days=context.settings.audit_days))
    await context.predictions.purge_expired()
    turns = TenantTurns("retention")
    for tenant in await context.all_tenants():
        with turns.of(tenant.tenant_id):
            removed = await context.with_tenant(tenant, context.models.clean_up)
            if removed:
                names = [f"{row.model_name}@{row.version}" for row in removed]
                _log.info("model versions removed", tenant_id=tenant.tenant_id, versions=names)
    await enforce_tombstones(context)
    for tenant_id in await context.retention.erasing():
        await erase_tenant(context, tenant_id)
    # After the erasures: what their rows named goes in the same round.
    swept = await sweep(context.artefacts, context.models.hashes_in_use)
    if swept.artefacts:
        _log.info("artefacts removed", artefacts=swept.artefacts, size_bytes=swept.size_bytes)
    turns.end()
