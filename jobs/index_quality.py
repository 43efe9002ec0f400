"""Comparing tenants' HNSW indexes with exact search, and mending those that find too little."""

import random
import time
from collections.abc import Collection
from functools import partial

import structlog
from prometheus_client import Counter, Gauge

from jobs.context import JobContext
from jobs.tenant_turns import TenantTurns
from storage.index_quality import IndexQuality
from storage.tenants import Tenant

JOB = "index_quality"
WANTED_RECALL = 0.99
PLENTY = 0.995
"""A recall with which a search may be made narrower: between the two nothing changes."""
STEPS = (100, 150, 200, 400)
"""How widely an index is searched, one after the other, before it is built anew."""
LAST_STEP = 1_000
"""The widest that pgvector offers; for what a rebuild does not mend."""
REBUILD_PAUSE_SECS = 24 * 3600.0
QUERIES = 40

_SHARE = 19
_UNPACED_SECS = 1.0

# With a label there is nothing to export in processes that never measure.
RECALL = Gauge(
    "penchant_index_recall",
    "Recall of the tenants' vector indexes as last measured: the smallest (min) and the mean.",
    ["statistic"],
    multiprocess_mode="livemostrecent",
)
INDEXES = Gauge(
    "penchant_indexes",
    "Vector indexes by their recall as last measured: ok, or low where it is below 0.99.",
    ["state"],
    multiprocess_mode="livemostrecent",
)
REBUILDS = Counter(
    "penchant_index_rebuilds_total", "Rebuilds of vector indexes that ended.", ["outcome"]
)

_log = structlog.get_logger(__name__)


async def watch_indexes(context: JobContext) -> None:
    """One round over all tenants with a placement of their own.

    A tenant that takes long is then left alone for nineteen times as long.

    Raises:
        Exception: the first tenant's failure, after all others have been measured.
    """
    rested = context.pace(JOB).rested_until
    turns = TenantTurns(JOB)
    for tenant in await context.all_tenants():
        began = time.monotonic()
        if not tenant.placement or began < rested.get(tenant.tenant_id, 0.0):
            continue
        with turns.of(tenant.tenant_id):
            await _watch(context, tenant)
        took = time.monotonic() - began
        if took > _UNPACED_SECS:
            rested[tenant.tenant_id] = time.monotonic() + _SHARE * took
    _export(await context.index_quality.recalls())
    turns.end()


def _export(recalls: Collection[float]) -> None:
    low = sum(recall < WANTED_RECALL for recall in recalls)
    INDEXES.labels("low").set(low)
    INDEXES.labels("ok").set(len(recalls) - low)
    if recalls:
        RECALL.labels("min").set(min(recalls))
        RECALL.labels("mean").set(sum(recalls) / len(recalls))


async def _watch(context: JobContext, tenant: Tenant) -> None:
    """Measures a tenant's index, and does what is needed until it finds enough."""
    seed = random.getrandbits(31)
    wider = [step for step in STEPS if step > tenant.ef_search]
    quality = await _first_good(context, tenant, (tenant.ef_search, *wider), seed)
    if quality is None:
        return
    await _record(context, tenant, quality)
    if quality.recall >= WANTED_RECALL:
        await _narrow(context, tenant, quality, seed)
        return
    steps: tuple[int, ...] = (LAST_STEP,)
    if await context.index_quality.order_rebuild(tenant.tenant_id, REBUILD_PAUSE_SECS):
        await _rebuild(context, tenant)
        steps = STEPS
    elif quality.ef_search == LAST_STEP:
        return
    again = await _first_good(context, tenant, steps, seed)
    if again is not None:
        await _record(context, tenant, again)


async def _narrow(context: JobContext, tenant: Tenant, quality: IndexQuality, seed: int) -> None:
    """Has an index searched less widely, by a step a round, where that finds plenty, too.

    What it was widened for may be over: a sample that had bad luck, or what was asked for then.
    """
    narrower = [step for step in STEPS if step < quality.ef_search]
    if quality.ef_search != tenant.ef_search or quality.recall < PLENTY or not narrower:
        return
    found = await context.index_quality.measure(tenant, narrower[-1], QUERIES, seed)
    if found is not None and found.recall >= PLENTY:
        await _record(context, tenant, found)


async def _first_good(
    context: JobContext, tenant: Tenant, steps: Collection[int], seed: int
) -> IndexQuality | None:
    """What is measured with the first step that suffices, else with the one that finds most."""
    best: IndexQuality | None = None
    for ef_search in steps:
        quality = await context.index_quality.measure(tenant, ef_search, QUERIES, seed)
        if quality is None:
            return None
        if best is None or quality.recall > best.recall:
            best = quality
        if quality.recall >= WANTED_RECALL:
            break
    return best


async def _record(context: JobContext, tenant: Tenant, quality: IndexQuality) -> None:
    await context.with_tenant(tenant, partial(_record_for, context, quality))
    if quality.ef_search != tenant.ef_search:
        _log.info(
            "index is searched more or less widely",
            tenant_id=tenant.tenant_id,
            ef_search=quality.ef_search,
            recall=quality.recall,
        )


async def _record_for(context: JobContext, quality: IndexQuality, tenant: Tenant) -> None:
    await context.index_quality.record(tenant, quality)


async def _rebuild(context: JobContext, tenant: Tenant) -> None:
    _log.warning("index is built anew", tenant_id=tenant.tenant_id, placement=tenant.placement)
    outcome = "error"
    try:
        await context.index_quality.rebuild(tenant.placement)
        outcome = "ok"
    finally:
        REBUILDS.labels(outcome).inc()
