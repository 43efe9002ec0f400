"""Integrity over whole installations: rows of nobody, indexes that cannot be used, accumulators."""

import asyncio
import math

import numpy as np
import pytest

from engine.integrity import is_sound
from storage.database import Database
from storage.index_quality import IndexQualityStore
from storage.integrity import IntegrityStore, ProfileCheck
from storage.placements import PlacementStore
from storage.tenants import Tenant, TenantStore

DAY = 86_400.0
RATE = math.log(2) / (30 * DAY)

GHOSTS = {
    "entity_neighbours": "INSERT INTO entity_neighbours VALUES ('ghost', 1, '{2}', '{1}')",
    "trending_entities": "INSERT INTO trending_entities"
    " VALUES ('ghost', 't', 'e', 1, now(), now())",
    "popular_entities": "INSERT INTO popular_entities VALUES ('ghost', '', 't', 'e', 1)",
    "embeddings": "INSERT INTO embeddings"
    " (tenant_id, entity_type, entity_id, embeddings, dimension)"
    " VALUES ('ghost', 't', 'e', float4send(0), 1)",
    "interactions": "INSERT INTO interactions (tenant_id, interaction_id, user_id, entity_type,"
    ' entity_id, interaction_type, weight, "timestamp") VALUES'
    " ('ghost', 'i', 'u', 't', 'e', 'v', 1, now())",
    "entities": "INSERT INTO entities (placement, tenant_id, entity_type, entity_id)"
    " VALUES (0, 'ghost', 't', 'e')",
    "placement_moves": "INSERT INTO placement_moves (tenant_id, from_placement, to_placement)"
    " VALUES ('ghost', 0, 9)",
}


@pytest.fixture
def store(maintenance_database: Database) -> IntegrityStore:
    return IntegrityStore(maintenance_database)


@pytest.fixture
async def tenant(database: Database, maintenance_database: Database) -> Tenant:
    return await TenantStore(database, maintenance_database).create("shop", dimension=8)


@pytest.fixture
async def placed(
    tenant: Tenant, owner_database: Database, maintenance_database: Database, database: Database
) -> Tenant:
    """The tenant, in a placement of its own with some vectors."""
    async with maintenance_database.connection(None) as connection:
        await connection.execute(
            "INSERT INTO entities (placement, tenant_id, entity_type, entity_id, feature_vector)"
            " SELECT 0, 'shop', 'item', n::text, (SELECT array_agg(random() - 0.5)"
            " FROM generate_series(1, 8 + 0 * n))::vector::halfvec FROM generate_series(1, 500) n"
        )
    placements = PlacementStore(owner_database, maintenance_database)
    await placements.request_move("shop")
    await placements.move("shop")
    return await TenantStore(database, maintenance_database).get("shop")


@pytest.mark.parametrize("table", GHOSTS)
async def test_row_of_a_tenant_that_does_not_exist_is_found(
    store: IntegrityStore, tenant: Tenant, maintenance_database: Database, table: str
) -> None:
    clean = await store.orphans()
    assert (clean.examined, clean.problems, clean.examples) == (1, 0, ())
    async with maintenance_database.connection("ghost") as connection:
        await connection.execute(GHOSTS[table])
    found = await store.orphans()
    assert (found.problems, found.examples) == (1, (f"{table} of ghost: 1",))


async def test_row_of_an_erased_tenant_is_found(
    store: IntegrityStore, tenant: Tenant, maintenance_database: Database
) -> None:
    async with maintenance_database.connection(None) as connection:
        for state, problems in (("erasing", 0), ("erased", 1)):
            await connection.execute("UPDATE tenants SET state = $1", state)
            await connection.execute("DELETE FROM catalogue_revisions WHERE slot > 0")
            await connection.execute("DELETE FROM interaction_types")
            assert (await store.orphans()).problems == problems


async def test_entity_outside_its_placement_is_found(
    store: IntegrityStore, placed: Tenant, maintenance_database: Database
) -> None:
    assert (await store.orphans()).problems == 0
    async with maintenance_database.connection(None) as connection:
        await connection.execute(
            "INSERT INTO entities (placement, tenant_id, entity_type, entity_id)"
            " VALUES (0, 'shop', 't', 'e')"
        )
    assert (await store.orphans()).examples == ("entities_p0 of shop: 1",)
    assert (await store.orphans_of(placed)).examples == ("entities outside the placement: 1",)


async def test_index_that_cannot_be_used_is_found(
    store: IntegrityStore, placed: Tenant, owner_database: Database
) -> None:
    assert (await store.indexes(placed)).problems == 0
    async with owner_database.connection(None) as connection:
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false"
            " WHERE indexrelid = 'interactions_by_time'::regclass"
        )
        assert (await store.indexes(placed)).examples == ("interactions_by_time",)
        await connection.execute("UPDATE pg_index SET indisvalid = true WHERE NOT indisvalid")
        await connection.execute("ALTER TABLE entities_p1 RENAME TO entities_p2")
        await connection.execute("CREATE TABLE entities_p1 (LIKE entities)")
        # Another tenant's partition does not concern this one.
        await connection.execute("DROP INDEX entities_p1_hnsw")
        assert (await store.indexes(placed)).examples == ("entities_p1 has no HNSW index",)


async def test_index_that_is_being_built_anew_is_no_problem(
    store: IntegrityStore,
    placed: Tenant,
    owner_database: Database,
    maintenance_database: Database,
) -> None:
    quality = IndexQualityStore(owner_database, maintenance_database)
    for _ in range(8):
        building = asyncio.create_task(quality.rebuild(placed.placement))
        while not building.done():
            assert (await store.indexes(placed)).examples == ()
        await building


def profile(kept: object, expected: object, **fields: float) -> ProfileCheck:
    given = {"kept_landmark": 0.0, "expected_landmark": 0.0, "mass": 10.0} | fields
    vectors = [None if v is None else np.asarray(v, np.float32) for v in (kept, expected)]
    return ProfileCheck(
        user_id="u", kept=vectors[0], expected=vectors[1], settled=True, sure=True, **given
    )


@pytest.mark.parametrize(
    ("case", "sound"),
    [
        (profile([3, 4], [3, 4]), True),
        (profile(None, None), True),
        (profile(None, [0, 0]), True),
        (profile([0, 0], None), True),
        (profile([3, 4], None), False),
        (profile(None, [3, 4]), False),
        (profile([3, 4], [3, 4, 0]), False),
        (profile([3, 4], [3.002, 4.002]), True),
        (profile([3, 4], [3.02, 4.02]), False),
        (profile([3, 4], [3.1, 3.9]), False),
        (profile([3, 4], [-3, -4]), False),
        # What is left where likes and dislikes cancel out is rounding.
        (profile([1e-4, -2e-4], [-3e-4, 1e-4]), True),
        (profile([6, 8], [3, 4], expected_landmark=30 * DAY), True),
        (profile([1.5, 2], [3, 4], expected_landmark=-30 * DAY), True),
        (profile([3, 4], [3, 4], expected_landmark=30 * DAY), False),
        (profile([0, 0], [3, 4], expected_landmark=-3000 * DAY), True),
    ],
)
def test_accumulator_is_sound_but_for_rounding(case: ProfileCheck, sound: bool) -> None:
    assert is_sound(case, RATE) is sound
