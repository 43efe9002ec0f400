"""Erased users whom a restored backup brought back: found by their hashes and removed again."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from engine.tombstones import Tombstones
from jobs.context import JobContext
from storage.erasure import Tombstone
from storage.exceptions import PenchantError
from storage.tenants import Tenant

_EVERY = timedelta(days=1)
_AT_ONCE = 10_000

_log = structlog.get_logger(__name__)


async def enforce_tombstones(context: JobContext) -> None:
    """Looks at all people of tenants with erased ones: when it begins to lead, and then daily."""
    pace = context.pace("tombstones")
    now = datetime.now(UTC)
    if pace.looked_at is not None and now - pace.looked_at < _EVERY:
        return
    await context.erasures.flag_restored()
    for tenant in await context.all_tenants():
        try:
            removed = await _enforce(context, tenant)
        except PenchantError as error:
            _log.warning("erasures not enforced", tenant_id=tenant.tenant_id, error=error.message)
            continue
        if removed:
            _log.warning("erased users came back", tenant_id=tenant.tenant_id, users=removed)
    pace.looked_at = now


async def _enforce(context: JobContext, tenant: Tenant) -> int:
    """Removes what came back of a tenant's erased users; returns of how many users."""
    if not tenant.has_erased_users:
        return 0
    tombstones = {t.user_hash: t for t in await context.erasures.tombstones(tenant.tenant_id)}
    hashes, removed, after = Tombstones(context.secret), 0, ""
    while people := await context.erasures.people(tenant.tenant_id, after, _AT_ONCE):
        for user_id, tombstone in await asyncio.to_thread(_matching, hashes, tombstones, people):
            work = partial(_remove, context, user_id, tombstone)
            removed += await context.with_tenant(tenant, work)
        after = people[-1]
    return removed


def _matching(
    hashes: Tombstones, tombstones: Mapping[bytes, Tombstone], people: Sequence[str]
) -> list[tuple[str, Tombstone]]:
    tenant_id = next(iter(tombstones.values())).tenant_id if tombstones else ""
    found = ((user_id, tombstones.get(hashes.hash(tenant_id, user_id))) for user_id in people)
    return [(user_id, tombstone) for user_id, tombstone in found if tombstone is not None]


async def _remove(context: JobContext, user_id: str, tombstone: Tombstone, tenant: Tenant) -> bool:
    if not tombstone.readmitted:
        await context.erasures.remove(tenant, user_id, tombstone.user_hash, readmit=False)
        return True
    count, _ = await context.interactions.delete(
        tenant, user_id=user_id, entity=None, interaction_ids=None, before=tombstone.erased_at
    )
    return count > 0
