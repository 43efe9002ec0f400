"""The round of housekeeping: cached predictions and artefacts that nobody needs any more."""

import hashlib
import os

from jobs.context import JobContext
from jobs.registry import run_once
from tests.jobs.conftest import Shop


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
