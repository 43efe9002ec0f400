"""Which tenants a periodic computation is due for, and what happens when one of them fails."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from jobs.context import JobContext
from jobs.tenant_turns import TenantTurns
from storage.tenants import Tenant

_OVERLAP = timedelta(minutes=1)
"""Covers transactions that were open at the last look, and clocks that differ."""

_SHARE = 9
_UNPACED_SECS = 1.0


async def for_due_tenants(
    context: JobContext,
    job: str,
    max_age: timedelta,
    work: Callable[[Tenant], Awaitable[object]],
) -> None:
    """Does work for every tenant whose results may be out of date, one after the other.

    These are the tenants that ingested anything since, that were never computed, or whose results
    are older than `max_age`. A tenant for which the work takes long is
    then left alone for nine times as long, so that it cannot keep PostgreSQL busy by itself.

    Raises:
        Exception: the first tenant's failure, after all others have been served.
    """
    pace = context.pace(job)
    now = datetime.now(UTC)
    ingests = await context.trends.latest_ingests((pace.looked_at or now - max_age) - _OVERLAP)
    finished = await context.trends.finished_at(job)
    turns = TenantTurns(job)
    resting = False
    for tenant in await context.all_tenants():
        tenant_id = tenant.tenant_id
        at, last = finished.get(tenant_id), ingests.get(tenant_id)
        if at is not None and at > now - max_age and (last is None or last < at - _OVERLAP):
            continue
        began = time.monotonic()
        if began < pace.rested_until.get(tenant_id, 0.0):
            resting = True
            continue
        with turns.of(tenant_id):
            await context.with_tenant(tenant, work)
        took = time.monotonic() - began
        if took > _UNPACED_SECS:
            pace.rested_until[tenant_id] = time.monotonic() + _SHARE * took
    turns.end()
    if not resting:
        pace.looked_at = now
