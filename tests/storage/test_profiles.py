"""The accumulator of user_profiles against its reference, `engine.decay`."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from engine.decay import Accumulator, empty, half_life_to_rate
from storage.database import Database
from storage.entities import EntityRow, EntityStore
from storage.integrity import IntegrityStore
from storage.interactions import InteractionRow, InteractionStore
from storage.tenants import Tenant, TenantStore

DIMENSION = 4
HALF_LIFE = 86_400.0
RATE = half_life_to_rate(HALF_LIFE)
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


async def make_tenant(database: Database, maintenance: Database, seed: int) -> Tenant:
    """A tenant with ten entities of random vectors, the last without one."""
    tenants = TenantStore(database, maintenance)
    tenant = await tenants.create("a", dimension=DIMENSION, profile_half_life_secs=HALF_LIFE)
    numbers = np.random.default_rng(seed)
    rows = {}
    for number in range(10):
        vector = numbers.normal(size=DIMENSION).astype(np.float16) if number < 9 else None
        row = EntityRow("book", str(number), feature_vector=vector)
        rows["book", str(number)] = lambda _, row=row: row
    await EntityStore(database).apply(tenant, rows)
    return tenant


async def unit_vectors(maintenance: Database) -> dict[str, np.ndarray]:
    async with maintenance.connection(None) as connection:
        rows = await connection.fetch(
            "SELECT entity_id, l2_normalize(feature_vector)::vector AS unit FROM entities"
        )
    return {row["entity_id"]: row["unit"] for row in rows if row["unit"] is not None}


def random_events(choose: random.Random, count: int, span: float) -> list[InteractionRow]:
    """Events over `span` seconds in no order; some count nothing."""
    return [
        InteractionRow(
            interaction_id=f"i{number}",
            user_id=choose.choice(["ada", "ben"]),
            entity_type="book",
            entity_id=str(choose.randrange(10)),
            interaction_type="like",
            weight=choose.choice([1.0, 2.0, -1.5, 0.0, 1e6, 1e-9]),
            timestamp=BEGIN + timedelta(seconds=round(choose.uniform(0, span), 6)),
            payload_hash=bytes([number % 256]),
        )
        for number in range(count)
    ]


def batches(choose: random.Random, events: list[InteractionRow]) -> list[list[InteractionRow]]:
    cuts = sorted(choose.sample(range(1, len(events)), 5))
    return [events[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


def reference(events: list[InteractionRow], vectors: dict[str, np.ndarray]) -> Accumulator:
    known = [event for event in events if event.entity_id in vectors]
    times = np.array([event.timestamp.timestamp() for event in known])
    return empty(DIMENSION, float(times.max())).add(
        np.array([vectors[event.entity_id] for event in known], np.float64),
        np.array([event.weight for event in known]),
        times,
        RATE,
    )


async def check(maintenance: Database, events: list[InteractionRow]) -> None:
    vectors = await unit_vectors(maintenance)
    async with maintenance.connection(None) as connection:
        rows = {r["user_id"]: r for r in await connection.fetch("SELECT * FROM user_profiles")}
    assert set(rows) == {event.user_id for event in events}
    for user, row in rows.items():
        mine = [event for event in events if event.user_id == user]
        counted = [event for event in mine if event.weight != 0]
        assert row["interaction_count"] == len(counted)
        assert row["last_interaction_at"] == max(event.timestamp for event in counted)
        expected = reference(mine, vectors)
        stored = Accumulator(row["accumulator"].astype(np.float64), row["landmark"].timestamp())
        now = expected.landmark
        size = float(np.linalg.norm(expected.vector))
        assert stored.value_at(now, RATE) == pytest.approx(expected.vector, abs=2e-5 * size)


@pytest.mark.parametrize("half_lives", [0, 1, 25, 60, 4_000])
@pytest.mark.parametrize("seed", [1, 2])
async def test_accumulator_is_the_reference_whatever_the_order(
    database: Database, maintenance_database: Database, seed: int, half_lives: int
):
    choose = random.Random(seed)
    tenant = await make_tenant(database, maintenance_database, seed)
    store = InteractionStore(database)
    events = random_events(choose, 80, half_lives * HALF_LIFE)
    for batch in batches(choose, events):
        await store.ingest(tenant, batch)
    await check(maintenance_database, events)


@pytest.mark.parametrize("ages", [(0, 2_000, 1_000, 0.5), (2_000, 900, 0.1, 0)])
async def test_weights_and_ages_at_a_floats_end(
    database: Database, maintenance_database: Database, ages: tuple[float, ...]
):
    tenant = await make_tenant(database, maintenance_database, 7)
    store = InteractionStore(database)
    weights = [5e-324, -1e-300, 1e-200, 1e-13, 1.0, -1e6]
    events = [
        InteractionRow(
            interaction_id=f"i{age}-{weight}",
            user_id="ada",
            entity_type="book",
            entity_id=str(number),
            interaction_type="like",
            weight=weight,
            timestamp=BEGIN - timedelta(seconds=age * HALF_LIFE),
        )
        for age in ages
        for number, weight in enumerate(weights)
    ]
    await store.ingest(tenant, events[:8])
    await store.ingest(tenant, events[8:])
    await check(maintenance_database, events)
    await store.rebuild_profiles(tenant, ["ada"])
    await check(maintenance_database, events)
    (profile,) = await IntegrityStore(maintenance_database).profiles(
        tenant, after="", share=1.0, seed=0, doubt_secs=0
    )
    kept = Accumulator(profile.kept.astype(np.float64), profile.kept_landmark)
    now = profile.expected_landmark
    assert kept.value_at(now, RATE) == pytest.approx(profile.expected, abs=1e-3 * profile.mass)


@pytest.mark.parametrize("days", [-30, -5, 5, 30])
async def test_accumulator_grows_on_from_a_landmark_off_the_grid(
    database: Database, maintenance_database: Database, days: int
):
    choose = random.Random(5)
    tenant = await make_tenant(database, maintenance_database, 5)
    store = InteractionStore(database)
    events = random_events(choose, 80, 40 * HALF_LIFE)
    await store.ingest(tenant, events[:40])
    async with maintenance_database.connection(None) as connection:
        await connection.execute(
            "UPDATE user_profiles SET landmark = landmark + make_interval(days => $1),"
            " accumulator = penchant_scale(accumulator, exp($2::double precision))",
            days,
            -RATE * days * 86_400,
        )
    await store.ingest(tenant, events[40:])
    await check(maintenance_database, events)


async def test_profiles_of_one_time_share_their_landmark(
    database: Database, maintenance_database: Database
):
    tenant = await make_tenant(database, maintenance_database, 6)
    store = InteractionStore(database)
    events = random_events(random.Random(6), 80, HALF_LIFE)
    await store.ingest(tenant, events)
    async with maintenance_database.connection(None) as connection:
        before = await connection.fetch("SELECT DISTINCT landmark FROM user_profiles")
        await store.rebuild_profiles(tenant, ["ada", "ben"])
        rebuilt = await connection.fetch("SELECT DISTINCT landmark FROM user_profiles")
    assert len(before) == 1
    assert rebuilt == before
    await check(maintenance_database, events)


async def test_accumulator_is_exact_under_concurrent_batches_and_repeats(
    database: Database, maintenance_database: Database
):
    choose = random.Random(3)
    tenant = await make_tenant(database, maintenance_database, 3)
    store = InteractionStore(database)
    events = random_events(choose, 200, 30 * HALF_LIFE)
    some = batches(choose, events)
    await asyncio.gather(*(store.ingest(tenant, batch) for batch in some + some))
    await check(maintenance_database, events)


async def test_rebuilt_profile_is_what_ingest_made(
    database: Database, maintenance_database: Database
):
    choose = random.Random(4)
    tenant = await make_tenant(database, maintenance_database, 4)
    store = InteractionStore(database)
    events = random_events(choose, 80, 10 * HALF_LIFE)
    for batch in batches(choose, events):
        await store.ingest(tenant, batch)
    await store.rebuild_profiles(tenant, ["ada", "ben"])
    await check(maintenance_database, events)
    gone = {event.interaction_id for event in events[:40]}
    await store.delete(tenant, user_id=None, entity=None, interaction_ids=sorted(gone), before=None)
    await check(maintenance_database, events[40:])
