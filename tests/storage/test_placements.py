"""Moves to a placement of one's own: nothing lost, nothing doubled, whoever writes or crashes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import numpy as np
import pytest

from storage.database import Database
from storage.entities import EntityStore
from storage.exceptions import Aborted, FailedPrecondition, NotFound, StaleTenant, Unavailable
from storage.interactions import InteractionStore
from storage.placements import PlacementStore
from storage.queries import candidates
from storage.retention import RetentionStore
from storage.tenants import TenantStore
from tests.storage.worlds import (
    DIMENSION,
    World,
    Writer,
    keep_counting,
    keep_reading,
    random_vector,
    steps_until,
)
from tests.waiting import until

PHASES = ["copying", "indexing", "switching", "cleaning"]


@pytest.fixture
async def world(
    owner_database: Database, maintenance_database: Database, database: Database
) -> World:
    tenants = TenantStore(database, maintenance_database)
    return World(
        owner=owner_database,
        maintenance=maintenance_database,
        service=database,
        tenants=tenants,
        entities=EntityStore(database),
        interactions=InteractionStore(database),
        placements=PlacementStore(owner_database, maintenance_database, slice_size=100),
        tenant=await tenants.create("shop", dimension=DIMENSION),
    )


async def test_move_under_writers_and_readers_loses_and_doubles_nothing(world: World) -> None:
    stable = 1500
    await world.fill(stable)
    numbers = {key: no for key, (_, no) in (await world.stored()).items()}
    stop = asyncio.Event()
    writers = [Writer(world, number) for number in range(3)]
    writing = [asyncio.create_task(w.run(stop)) for w in writers]
    looking = [
        asyncio.create_task(look(world, stop, stable))
        for look in (keep_reading, keep_reading, keep_counting)
    ]
    await asyncio.sleep(0.3)
    await world.placements.request_move("shop")
    await world.placements.request_move("shop")
    await world.placements.move("shop")
    written = sum(w.written for w in writers)
    await until(lambda: sum(w.written for w in writers) > written)
    stop.set()
    await asyncio.gather(*writing)
    assert all(looks > 0 for looks in await asyncio.gather(*looking))
    assert (await world.reread()).placement == 1
    found = await world.stored()
    expected = {key: state for w in writers for key, state in w.expected.items()}
    assert {key: a for key, (a, _) in found.items() if key[1][0] == "w"} == expected
    assert {key: no for key, (_, no) in found.items() if key[1][0] == "s"} == numbers
    assert await world.leftovers() == [0, 0, 0]
    assert await world.placements.unfinished() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_move_of_a_large_tenant_loses_and_doubles_nothing(world: World, short: bool) -> None:
    stable = 6_000 if short else 20_000
    await world.fill(stable)
    stop = asyncio.Event()
    writers = [Writer(world, number) for number in range(4)]
    writing = [asyncio.create_task(w.run(stop)) for w in writers]
    looking = [asyncio.create_task(look(world, stop, stable)) for look in (keep_reading,) * 3]
    await world.placements.request_move("shop")
    while await world.placements.unfinished():
        with suppress(Aborted):  # a lock that could not be had for a minute: the job comes again
            await world.placements.move("shop")
    stop.set()
    await asyncio.gather(*writing)
    assert all(looks > 0 for looks in await asyncio.gather(*looking))
    await world.reread()
    found = await world.stored()
    expected = {key: state for w in writers for key, state in w.expected.items()}
    assert {key: a for key, (a, _) in found.items() if key[1][0] == "w"} == expected
    assert sum(key[1][0] == "s" for key in found) == stable


@pytest.mark.parametrize("phase", PHASES)
async def test_move_interrupted_in_a_phase_goes_on_from_there(world: World, phase: str) -> None:
    await world.fill(350)
    await world.placements.request_move("shop")
    await steps_until(world, phase)
    before = await world.stored()

    writer = Writer(world, 1)
    await world.reread()
    for key in writer.names[:20]:
        await writer.write(key)
    await world.reread()
    # The next step is cut off before it can commit.
    async with (
        world.service.transaction("shop") as connection,
        world.owner.connection(None) as killer,
    ):
        # A reader, a writer and somebody in the row itself: every phase has a lock to wait for.
        await connection.execute("SELECT penchant_guard_write($1, $2, $3)", *world.guard)
        await connection.execute("SELECT count(*) FROM entities")
        step = asyncio.create_task(world.placements.step("shop"))
        await asyncio.sleep(0.02)
        await killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE '%penchant_move_%'"
            " AND pid <> pg_backend_pid()"
        )
        with suppress(Aborted, Unavailable):
            await step

    again = PlacementStore(world.owner, world.maintenance, slice_size=100)
    assert await again.unfinished() == ["shop"]
    await again.move("shop")

    assert (await world.reread()).placement == 1
    found = await world.stored()
    assert {k: a for k, (a, _) in found.items() if k[1][0] == "w"} == writer.expected
    assert {k: v for k, v in found.items() if k[1][0] == "s"} == before
    assert await world.leftovers() == [0, 0, 0]


async def test_move_whose_backends_are_killed_all_the_time_is_done_in_the_end(world: World) -> None:
    await world.fill(600)
    before = await world.stored()
    done = asyncio.Event()

    async def kill() -> None:
        pause = 0.02  # and longer: a slow machine's statements must find a gap, too
        while not done.is_set():
            async with world.maintenance.transaction(None) as connection:
                await connection.execute("RESET ROLE")
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE '%penchant_move_%' AND pid <> pg_backend_pid()"
                    " AND random() < 0.5"
                )
                await connection.execute("SET ROLE penchant_maintenance")
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 1.05)

    killer = asyncio.create_task(kill())
    await world.placements.request_move("shop")
    await asyncio.sleep(0)
    try:
        while await world.placements.unfinished():
            try:
                await world.placements.move("shop")
            except Unavailable:
                continue
    finally:
        done.set()
        await killer
    await world.reread()
    assert await world.stored() == before
    assert await world.leftovers() == [0, 0, 0]


async def test_move_by_two_at_once_is_done_once(world: World) -> None:
    await world.fill(600)
    before = await world.stored()
    await world.placements.request_move("shop")
    await asyncio.gather(*(world.placements.move("shop") for _ in range(2)))
    assert (await world.reread()).placement == 1
    assert await world.stored() == before


async def test_move_leaves_the_neighbours_in_the_shared_placement_alone(world: World) -> None:
    other = await world.tenants.create("other", dimension=DIMENSION)
    await world.fill(300)
    await world.fill(50, other)
    await world.placements.request_move("shop")
    await steps_until(world, "copying")
    await world.fill(80, other)
    await world.placements.move("shop")
    assert (await world.tenants.index_stats("other")).entity_count == 80
    assert (await world.tenants.index_stats(world.tenant.tenant_id)).entity_count == 300


async def test_old_tenant_row_is_stale_after_the_move(world: World) -> None:
    await world.fill(10)
    old = world.tenant
    await world.placements.request_move("shop")
    await world.placements.move("shop")
    with pytest.raises(StaleTenant):
        await world.entities.get(old, [("item", "s000000")])
    with pytest.raises(StaleTenant):
        await world.entities.delete(old, ("item", "s000000"))
    assert len(await world.entities.get(await world.reread(), [("item", "s000000")])) == 1


async def test_content_candidates_use_the_hnsw_index_after_the_move(world: World) -> None:
    await world.fill(3000)
    await world.placements.request_move("shop")
    await PlacementStore(world.owner, world.maintenance).move("shop")
    tenant = await world.reread()
    vector = random_vector(np.random.default_rng(1))
    arguments = (
        *(tenant.tenant_id, tenant.version, tenant.placement, None, 20, None, None),
        *("", "", None, [], vector, None, [], [], None, [], [], [], [], [], []),
    )
    of_any = candidates(frozenset({"content"}), DIMENSION)
    of_one = candidates(frozenset({"content"}), DIMENSION, placement=1, wanted=True)
    async with world.service.connection("shop") as connection:
        for explained in (f"EXPLAIN {of_any}", f"EXPLAIN (GENERIC_PLAN) {of_one}"):
            plan = [row[0] for row in await connection.fetch(explained, *arguments)]
            assert any("entities_p1_hnsw" in line for line in plan)
            assert not any("entities_p0" in line for line in plan)


async def test_index_is_built_with_the_measured_settings(world: World) -> None:
    await world.fill(10)
    await world.placements.request_move("shop")
    await world.placements.move("shop")
    async with world.owner.connection(None) as connection:
        options = await connection.fetchval(
            "SELECT reloptions FROM pg_class WHERE oid = 'entities_p1_hnsw'::regclass"
        )
    assert options == ["m=16", "ef_construction=128"]


@pytest.mark.parametrize(("role", "may"), [("maintenance", True), ("service", False)])
async def test_progress_of_builds_is_told_to_maintenance_only(
    world: World, role: str, may: bool
) -> None:
    async with world.owner.connection(None) as connection:
        granted = await connection.fetchval(
            "SELECT has_function_privilege($1, 'penchant_index_share(regclass)', 'EXECUTE')",
            f"penchant_{role}",
        )
    assert granted == may


async def test_a_build_in_its_first_block_is_not_told_as_whole(world: World) -> None:
    # PostgreSQL tells all blocks as done while it is in the first.
    async with world.owner.connection(None) as connection:
        await connection.execute(
            "CREATE TABLE vectors AS SELECT ARRAY[n, 1, 1]::real[]::halfvec(3) AS v, n"
            " FROM generate_series(1, 1000) AS n"
        )
        await connection.execute(
            "CREATE FUNCTION halting(v halfvec, n integer) RETURNS halfvec LANGUAGE plpgsql"
            " IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(0.1) WHERE n < 30; RETURN v; END $$"
        )

    async def build() -> None:
        async with world.owner.connection(None) as connection:
            await connection.execute(
                "CREATE INDEX ON vectors USING hnsw ((halting(v, n)::halfvec(3)) halfvec_l2_ops)"
            )

    building = asyncio.create_task(build())
    told: list[float] = []
    async with world.owner.connection(None) as connection:
        while not building.done():
            share = await connection.fetchval("SELECT penchant_index_share('vectors')")
            if share is not None:
                told.append(share)
    await building
    assert told[0] == 0.0
    assert told == sorted(told)


async def test_new_partition_shows_nothing_without_a_tenant(world: World) -> None:
    await world.fill(10)
    await world.placements.request_move("shop")
    await world.placements.move("shop")
    async with world.owner.connection(None) as connection:
        superuser = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = user")
        forced = await connection.fetchval(
            "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class"
            " WHERE oid = 'entities_p1'::regclass"
        )
        visible = await connection.fetchval("SELECT count(*) FROM entities_p1")
    assert forced
    assert visible == (10 if superuser else 0)
    counts = {}
    for tenant_id in ("shop", "other", None):
        async with world.service.connection(tenant_id) as connection:
            counts[tenant_id] = await connection.fetchval("SELECT count(*) FROM entities")
    assert counts == {"shop": 10, "other": 0, None: 0}


GIVE_TO_PLAIN_OWNER = """
DO $$
DECLARE
    thing regclass;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'penchant_test_owner') THEN
        CREATE ROLE penchant_test_owner NOLOGIN;
    END IF;
    GRANT CREATE, USAGE ON SCHEMA public TO penchant_test_owner;
    FOR thing IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND (c.relkind IN ('r', 'p')
            OR c.relname IN ('revision_seq', 'entity_no_seq', 'placement_seq'))
        ORDER BY c.relkind
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO penchant_test_owner', thing);
    END LOOP;
END
$$
"""


async def test_owner_without_superuser_can_move_and_erase(
    world: World, connect_database: Callable[..., Awaitable[Database]]
) -> None:
    await world.fill(250)
    async with world.owner.connection(None) as connection:
        await connection.execute(GIVE_TO_PLAIN_OWNER)
    plain = await connect_database(role="penchant_test_owner")
    placements = PlacementStore(plain, world.maintenance, slice_size=100)
    await placements.request_move("shop")
    await placements.move("shop")
    assert (await world.reread()).placement == 1
    assert len(await world.stored()) == 250
    for tenant_id in ("shop", "other", None):
        async with plain.connection(tenant_id) as connection:
            visible = await connection.fetchval("SELECT count(*) FROM entities_p1")
        assert visible == (250 if tenant_id == "shop" else 0)
    await world.tenants.begin_erasure("shop")
    retention = RetentionStore(plain, world.maintenance)
    await retention.erase("shop")
    assert await retention.erasing() == []
    assert await retention.ensure_interaction_partitions(3) == 1


async def test_crowded_tenants_are_requested_once(world: World) -> None:
    await world.fill(30)
    await world.tenants.create("small", dimension=DIMENSION)
    assert await world.placements.request_crowded(30) == []
    assert await world.placements.request_crowded(20) == ["shop"]
    assert await world.placements.request_crowded(20) == []
    assert await world.placements.unfinished() == ["shop"]


async def test_abandoned_move_leaves_nothing_behind(world: World) -> None:
    await world.fill(250)
    before = await world.stored()
    await world.placements.request_move("shop")
    await steps_until(world, "switching")
    await world.fill(10)
    await world.placements.abandon("shop")
    assert len(await world.stored()) == len(before)
    async with world.owner.connection(None) as connection:
        assert await connection.fetchval("SELECT to_regclass('entities_p1')") is None
    await world.placements.request_move("shop")
    await world.placements.move("shop")
    assert (await world.reread()).placement == 2


async def test_move_without_a_request_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.placements.move("shop")


@pytest.mark.parametrize("until", ["requested", "copying", "switching", "cleaning", "done"])
async def test_erasure_leaves_no_row_wherever_a_move_stands(world: World, until: str) -> None:
    other = await world.tenants.create("other", dimension=DIMENSION)
    await world.fill(250)
    await world.fill(5, other)
    writer = Writer(world, 1)
    for key in writer.names:
        await writer.write(key)
    await world.placements.request_move("shop")
    if until != "requested":
        await steps_until(world, until)
    await world.tenants.begin_erasure("shop")
    retention = RetentionStore(world.owner, world.maintenance, slice_size=100)
    assert await retention.erasing() == ["shop"]
    if until not in ("requested", "done"):
        with pytest.raises(FailedPrecondition):
            await world.placements.move("shop")

    await retention.erase("other")
    await retention.erase("shop")
    await retention.erase("shop")

    async with world.maintenance.connection(None) as connection:
        tables = await connection.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relkind IN ('r', 'p') AND a.attname = 'tenant_id'"
        )
        left = {
            r["relname"]
            for r in tables
            if await connection.fetchval(
                f"SELECT count(*) FROM {r['relname']} WHERE tenant_id = 'shop'"
            )
        }
        assert left == {"tenants"}
        state = await connection.fetchval("SELECT state FROM tenants WHERE tenant_id = 'shop'")
    assert state == "erased"
    assert await retention.erasing() == []
    assert (await world.tenants.index_stats("other")).entity_count == 5
