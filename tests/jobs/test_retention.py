"""The round of housekeeping: cached predictions and artefacts that nobody needs any more."""

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobs.context import JobContext
from jobs.registry import run_once
from jobs.retention import DAYS_AHEAD
from storage.answer_log import AnswerLogStore, AnswerRow, NewAnswer
from storage.audit import AuditEntry, AuditStore
from tests.jobs.conftest import Settings, Shop


def keep(context: JobContext, content: bytes, *, old: bool) -> str:
    name = hashlib.sha256(content).hexdigest()
    temporary = context.artefacts.temporary()
    temporary.write_bytes(content)
    context.artefacts.keep(temporary, name)
    if old:
        os.utime(context.artefacts.path(name), (1, 1))
    return name


async def test_retention_purges_expired_predictions(context: JobContext, shop: Shop) -> None:
    for name in ("old", "new"):
        await context.predictions.cache_predictions(shop.tenant, name, [1])
    async with context.maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE prediction_cache SET cached_at = 'epoch', expires_at = now()"
            " WHERE cache_key = 'old'"
        )
    await run_once(context, ["retention"])
    assert (await context.predictions.get_cache_statistics(shop.tenant)).entries == 1


async def test_retention_removes_old_artefacts_that_no_version_names(
    context: JobContext, shop: Shop
) -> None:
    used, unused = keep(context, b"used", old=True), keep(context, b"unused", old=True)
    fresh = keep(context, b"fresh", old=False)
    await context.models.create(shop.tenant, "m", algorithm="als")
    await context.models.add_version(
        shop.tenant, "m", manifest={}, metadata={}, content_hash=used, size_bytes=4
    )
    await run_once(context, ["retention"])
    assert context.artefacts.hashes() == sorted([used, fresh])
    await context.tenants.begin_erasure(shop.tenant.tenant_id)
    await run_once(context, ["retention"])
    assert context.artefacts.hashes() == [fresh]
    assert unused not in context.artefacts.hashes()


async def test_retention_removes_versions_beyond_what_a_model_keeps(
    context: JobContext, shop: Shop
) -> None:
    await context.models.create(shop.tenant, "m", algorithm="als", keep_versions=2)
    for number in range(4):
        await context.models.add_version(
            shop.tenant, "m", manifest={}, metadata={}, content_hash=f"{number}" * 64, size_bytes=4
        )
    await context.models.promote(shop.tenant, "m", "1", "test")
    await run_once(context, ["retention"])
    left = await context.models.versions(shop.tenant, "m", deleted=True)
    assert sorted(row.version for row in left) == ["1", "3", "4"]


async def test_retention_makes_and_forgets_days_of_the_answer_log(
    context: JobContext, shop: Shop
) -> None:
    now = datetime.now(UTC)
    log = AnswerLogStore(context.service, context.maintenance)
    old, new = (
        AnswerRow(name, "ada", at, now + timedelta(days=30), (), b"")
        for name, at in (("old", now - timedelta(days=8)), ("new", now - timedelta(days=6)))
    )
    tenant_id = shop.tenant.tenant_id
    await log.write([NewAnswer(tenant_id, row, b"") for row in (old, new)])
    async with context.owner.connection(None) as connection:
        await connection.execute(f"DROP TABLE answer_log_{now + timedelta(days=2):%Y_%m_%d}")
    await run_once(context, ["retention"])
    assert await log.get(shop.tenant, "old") is None
    assert await log.get(shop.tenant, "new") == new
    assert await context.retention.ensure_answer_partitions(DAYS_AHEAD) == 0
    await context.tenants.begin_erasure(tenant_id)
    await run_once(context, ["retention"])
    assert await log.count_user(tenant_id, "ada") == 0


@pytest.mark.parametrize(("days", "left"), [(365, 1), (0, 2)])
async def test_retention_forgets_old_events_of_the_audit(
    context: JobContext, settings: Settings, days: int, left: int
) -> None:
    entry = AuditEntry("cli:me", "tenant create", "shop", "", "OK", "host:here", "")
    audit = AuditStore(context.service, context.maintenance)
    for _ in range(2):
        await audit.append(entry)
    async with context.owner.connection(None) as connection:
        await connection.execute(
            "UPDATE audit_events SET occurred_at = now() - interval '366 days'"
            " WHERE event_id = (SELECT min(event_id) FROM audit_events)"
        )
    context.settings = replace(settings, audit_days=days)
    await run_once(context, ["retention"])
    assert len(await audit.page(None, None, 9)) == left
