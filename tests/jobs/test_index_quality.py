"""Tenants' vector indexes: measured against exact search, searched more widely, built anew."""

from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client import REGISTRY

from jobs import index_quality
from jobs.context import JobContext
from jobs.index_quality import LAST_STEP, PLENTY, STEPS, WANTED_RECALL
from jobs.registry import run_once
from storage.interactions import InteractionRow
from storage.tenants import Tenant
from storage.vector_codecs import halfvec_array

DIMENSION = 16
ENTITIES = 3_000

FILL = """
INSERT INTO entities (placement, tenant_id, entity_type, entity_id, feature_vector)
SELECT 0, 'big', 'item', 'e' || n.place, n.vector
FROM unnest($1::halfvec[]) WITH ORDINALITY AS n (vector, place)
"""
SPOIL = """
DROP INDEX entities_p1_hnsw;
CREATE INDEX entities_p1_hnsw ON entities_p1
USING hnsw ((feature_vector::halfvec(16)) halfvec_cosine_ops)
WITH (m = {m}, ef_construction = {ef});
"""
GOOD_WHEN_REBUILT = "ALTER INDEX entities_p1_hnsw SET (m = 16, ef_construction = 64)"
INDEX_FILE = "SELECT pg_relation_filenode('entities_p1_hnsw')"


@pytest.fixture
async def big(context: JobContext) -> Tenant:
    """A tenant with a placement of its own."""
    await context.tenants.create("big", dimension=DIMENSION)
    vectors = np.random.default_rng(5).standard_normal((ENTITIES, DIMENSION)).astype(np.float16)
    async with context.maintenance.connection("big") as connection:
        await connection.execute(FILL, halfvec_array(vectors))
    await context.placements.request_move("big")
    await context.placements.move("big")
    return await context.tenants.get("big")


async def as_owner(context: JobContext, *statements: str) -> None:
    async with context.owner.connection(None) as connection:
        for statement in statements:
            await connection.execute(statement)


async def index_file(context: JobContext) -> int:
    async with context.owner.connection(None) as connection:
        return int(await connection.fetchval(INDEX_FILE))


async def kept(context: JobContext) -> tuple[float, int, bool]:
    """What is stored of the last measurement: recall, ef_search, whether a rebuild was ordered."""
    async with context.maintenance.connection(None) as connection:
        row = await connection.fetchrow(
            "SELECT recall, ef_search, rebuild_requested_at IS NOT NULL FROM index_quality"
            " WHERE tenant_id = 'big'"
        )
    assert row is not None
    return row[0], row[1], row[2]


async def watch(context: JobContext) -> None:
    context.pace(index_quality.JOB).rested_until.clear()
    await run_once(context, [index_quality.JOB])


async def session_width(context: JobContext, tenant_id: str | None) -> str:
    async with context.service.connection(tenant_id) as connection:
        return str(await connection.fetchval("SELECT current_setting('hnsw.ef_search')"))


async def test_measurement_asks_for_what_users_did_lately(context: JobContext, big: Tenant) -> None:
    row = InteractionRow("i", "ada", "item", "unknown", "view", 1.0, datetime.now(UTC))
    await context.interactions.ingest(big, [row])
    before = await context.index_quality.measure(big, 100, 40, 1)
    async with context.maintenance.connection("big") as connection:
        # Nothing is near to a vector of length 0: it is left out, which shows that it was chosen.
        await connection.execute(
            "UPDATE user_profiles SET preference_vector = array_fill(0, ARRAY[16])::real[]::halfvec"
        )
    after = await context.index_quality.measure(big, 100, 40, 1)
    assert before is not None
    assert after is not None
    assert (before.sampled_queries, after.sampled_queries) == (40, 39)


async def test_good_index_is_measured_and_left_alone(context: JobContext, big: Tenant) -> None:
    before = await context.tenants.index_stats("big")
    assert (before.recall, before.recall_measured_at, before.ef_search) == (None, None, STEPS[0])

    await watch(context)

    recall, ef_search, rebuilt = await kept(context)
    assert (ef_search, rebuilt) == (STEPS[0], False)
    assert recall >= WANTED_RECALL
    after = await context.tenants.get("big")
    assert (after.ef_search, after.version) == (STEPS[0], big.version)
    assert REGISTRY.get_sample_value("penchant_index_recall", {"statistic": "min"}) == recall
    assert REGISTRY.get_sample_value("penchant_indexes", {"state": "low"}) == 0
    stats = await context.tenants.index_stats("big")
    assert (stats.recall, stats.ef_search) == (recall, STEPS[0])
    assert stats.recall_measured_at is not None


async def test_index_that_finds_too_little_is_searched_more_widely(
    context: JobContext, big: Tenant
) -> None:
    await context.tenants.create("small", dimension=DIMENSION)
    await as_owner(context, SPOIL.format(m=7, ef=14))
    async with context.maintenance.connection(None) as connection:
        await connection.execute("UPDATE tenants SET ef_search = 10, version = version + 1")
    narrow = await context.index_quality.measure(await context.tenants.get("big"), 10, 40, 1)
    assert narrow is not None
    assert narrow.recall < WANTED_RECALL

    await watch(context)

    recall, ef_search, rebuilt = await kept(context)
    assert ef_search in STEPS
    assert recall >= WANTED_RECALL > narrow.recall
    assert not rebuilt
    # What sessions search by comes with the tenant's row.
    await context.tenants.get("small")
    assert await session_width(context, "small") == "10"
    assert await session_width(context, "big") == "10"
    after = await context.tenants.get("big")
    assert after.ef_search == ef_search
    assert after.version > big.version
    assert await session_width(context, "big") == str(ef_search)
    assert await session_width(context, "small") == "10"
    assert await session_width(context, None) == "100"


async def test_index_that_finds_plenty_is_searched_less_widely_step_by_step(
    context: JobContext, big: Tenant
) -> None:
    async with context.maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE tenants SET ef_search = $1, version = version + 1", LAST_STEP
        )
    widths = []
    for _ in range(len(STEPS) + 1):
        await watch(context)
        recall, ef_search, _ = await kept(context)
        assert recall >= PLENTY
        widths.append(ef_search)
    assert widths == [*reversed(STEPS), STEPS[0]]
    assert (await context.tenants.get("big")).ef_search == STEPS[0]


async def test_index_that_needs_its_width_keeps_it(
    context: JobContext, big: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_quality, "STEPS", (10, LAST_STEP))
    await as_owner(context, SPOIL.format(m=7, ef=14))
    async with context.maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE tenants SET ef_search = $1, version = version + 1", LAST_STEP
        )
    await watch(context)
    recall, ef_search, rebuilt = await kept(context)
    assert (recall >= PLENTY, ef_search, rebuilt) == (True, LAST_STEP, False)


async def test_index_that_width_does_not_help_is_built_anew(
    context: JobContext, big: Tenant
) -> None:
    await as_owner(
        context,
        SPOIL.format(m=2, ef=4),
        GOOD_WHEN_REBUILT,
        # What an interrupted rebuild leaves.
        "CREATE INDEX entities_p1_hnsw_ccnew ON entities_p1 (entity_no)",
    )
    before = await index_file(context)

    await watch(context)

    recall, ef_search, rebuilt = await kept(context)
    assert rebuilt
    assert recall >= WANTED_RECALL
    assert ef_search in STEPS
    assert await index_file(context) != before
    async with context.owner.connection(None) as connection:
        names = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relname LIKE 'entities_p1_hnsw%'"
        )
        memory = await connection.fetchval(
            "SELECT bool_and(setting = reset_val) FROM pg_settings"
            " WHERE name IN ('maintenance_work_mem', 'max_parallel_maintenance_workers')"
        )
    assert [row["relname"] for row in names] == ["entities_p1_hnsw"]
    assert memory


async def test_index_is_built_anew_once_a_day_and_then_searched_as_widely_as_can_be(
    context: JobContext, big: Tenant
) -> None:
    await as_owner(context, SPOIL.format(m=2, ef=4))
    await watch(context)
    file = await index_file(context)
    assert (await kept(context))[2]

    await watch(context)
    recall, ef_search, _ = await kept(context)
    assert await index_file(context) == file
    assert ef_search == LAST_STEP
    assert recall < WANTED_RECALL
    assert REGISTRY.get_sample_value("penchant_indexes", {"state": "low"}) == 1

    async with context.maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE index_quality SET rebuild_requested_at = now() - interval '2 days'"
        )
    await watch(context)
    assert await index_file(context) != file


async def test_tenant_without_vectors_has_no_recall(context: JobContext) -> None:
    await context.tenants.create("big", dimension=DIMENSION)
    await context.placements.request_move("big")
    await context.placements.move("big")
    await watch(context)
    stats = await context.tenants.index_stats("big")
    assert (stats.placement, stats.recall, stats.ef_search) == (1, None, STEPS[0])
