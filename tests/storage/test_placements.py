"""Moves to a placement of one's own: nothing lost, nothing doubled, whoever writes or crashes."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from storage.database import Database
from storage.entities import Change, EntityKey, EntityRow, EntityStore
from storage.exceptions import Aborted, FailedPrecondition, NotFound, StaleTenant, Unavailable
from storage.interactions import InteractionRow, InteractionStore
from storage.placements import PlacementStore
from storage.queries import candidates
from storage.retention import RetentionStore
from storage.tenants import Tenant, TenantStore

DIMENSION = 16
PHASES = ["copying", "indexing", "switching", "cleaning"]


def _vector(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def _state(key: EntityKey, n: int, vector: np.ndarray) -> Change:
    def change(present: EntityRow | None) -> EntityRow:
        row = present or EntityRow(*key)
        return replace(row, attributes=f'{{"n": {n}}}', feature_vector=vector, vector_given=True)

    return change


@dataclass
class World:
    """A tenant with its stores; `tenant` is the row as last read."""

    owner: Database
    maintenance: Database
    service: Database
    tenants: TenantStore
    entities: EntityStore
    interactions: InteractionStore
    placements: PlacementStore
    tenant: Tenant

    async def reread(self) -> Tenant:
        self.tenant = await self.tenants.get(self.tenant.tenant_id)
        return self.tenant

    @property
    def guard(self) -> tuple[str, int, int]:
        """The guards' arguments."""
        return (self.tenant.tenant_id, self.tenant.tenant_no, self.tenant.version)

    async def fill(self, count: int, tenant: Tenant | None = None) -> None:
        rng = np.random.default_rng(0)
        for start in range(0, count, 1000):
            keys = [("item", f"s{i:06}") for i in range(start, min(start + 1000, count))]
            await self.entities.apply(
                tenant or self.tenant, {key: _state(key, 0, _vector(rng)) for key in keys}
            )

    async def stored(self, *, guarded: bool = True) -> dict[EntityKey, tuple[str, int]]:
        """All entities as maintenance sees them; fails where a name appears twice."""
        async with self.maintenance.transaction(None) as connection:
            if guarded:
                await connection.execute("SELECT penchant_guard_write($1, $2, $3)", *self.guard)
            rows = await connection.fetch(
                "SELECT * FROM entities WHERE tenant_id = $1", self.tenant.tenant_id
            )
        found = {
            (r["entity_type"], r["entity_id"]): (r["attributes"], r["entity_no"]) for r in rows
        }
        assert len(rows) == len(found)
        return found

    async def leftovers(self) -> list[int]:
        """Rows in the shared partition, logged changes, triggers: what a move takes away."""
        async with self.maintenance.connection(None) as connection:
            return [
                await connection.fetchval(sql, self.tenant.tenant_id)
                for sql in (
                    "SELECT count(*) FROM entities_p0 WHERE tenant_id = $1",
                    "SELECT count(*) FROM placement_changes WHERE tenant_id = $1",
                    "SELECT count(*) FROM pg_trigger WHERE $1 <> '' AND NOT tgisinternal"
                    " AND tgrelid = 'entities_p0'::regclass",
                )
            ]


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


async def _steps_until(world: World, phase: str) -> None:
    while await world.placements.step(world.tenant.tenant_id) != phase:
        pass


class _Writer:
    """Writes names that no other writer touches, and remembers what must be stored."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.expected: dict[EntityKey, str] = {}
        self.names = [("item", f"w{number}-{i}") for i in range(40)]
        self.gone: set[EntityKey] = set()
        self.random = random.Random(number)
        self.rng = np.random.default_rng(number)
        self.number = number
        self.written = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._once(self.random.choice(self.names))
            await asyncio.sleep(0)

    async def _once(self, key: EntityKey) -> None:
        self.written += 1
        n = self.written
        vector = _vector(self.rng)
        kind = self.random.choice(["upsert", "upsert", "delete", "ingest"])
        while True:
            tenant = self.world.tenant
            try:
                if kind == "upsert":
                    await self.world.entities.apply(tenant, {key: _state(key, n, vector)})
                    self.expected[key] = f'{{"n": {n}}}'
                elif kind == "delete":
                    await self.world.entities.delete(tenant, key)
                    self.expected.pop(key, None)
                else:
                    await self.world.interactions.ingest(tenant, [self._interaction(key, n)])
                    self.expected.setdefault(key, "{}")
            except StaleTenant:
                await self.world.reread()
            except Aborted:
                await asyncio.sleep(0.01)
            else:
                return

    def _interaction(self, key: EntityKey, n: int) -> InteractionRow:
        return InteractionRow(
            interaction_id=f"i{self.number}-{n}",
            user_id=f"u{n % 7}",
            entity_type=key[0],
            entity_id=key[1],
            interaction_type="view",
            weight=1.0,
            timestamp=datetime(2024, 5, 1, tzinfo=UTC),
            payload_hash=b"x",
        )


async def _read(world: World, stop: asyncio.Event, stable: int) -> int:
    """Reads the entities that nobody writes, by name and in pages; returns how often."""
    keys = [("item", f"s{i:06}") for i in range(0, stable, stable // 50)]
    reads = 0
    while not stop.is_set():
        tenant = world.tenant
        try:
            assert set(await world.entities.get(tenant, keys)) == set(keys)
            page = await world.entities.page(
                tenant,
                after=("item", "s"),
                entity_type="item",
                filter_path=None,
                filter_variables=None,
                limit=10_000,
            )
        except StaleTenant:
            await world.reread()
            continue
        except Aborted:
            continue
        assert sum(row.entity_id.startswith("s") for row in page) == stable
        reads += 1
        await asyncio.sleep(0)
    return reads


async def _count(world: World, stop: asyncio.Event, stable: int) -> int:
    """Looks at all partitions at once: no name is there twice, and with the guard none is missing."""
    looks = 0
    while not stop.is_set():
        await world.stored(guarded=False)
        try:
            found = await world.stored()
        except StaleTenant:
            await world.reread()
            continue
        assert sum(entity_id.startswith("s") for _, entity_id in found) == stable
        looks += 1
        await asyncio.sleep(0)
    return looks


async def test_move_under_writers_and_readers_loses_and_doubles_nothing(world: World) -> None:
    stable = 1500
    await world.fill(stable)
    numbers = {key: no for key, (_, no) in (await world.stored()).items()}
    stop = asyncio.Event()
    writers = [_Writer(world, number) for number in range(3)]
    tasks = [asyncio.create_task(w.run(stop)) for w in writers]
    tasks += [asyncio.create_task(look(world, stop, stable)) for look in (_read, _read, _count)]
    await asyncio.sleep(0.3)
    await world.placements.request_move("shop")
    await world.placements.request_move("shop")
    await world.placements.move("shop")
    written = sum(w.written for w in writers)
    await asyncio.sleep(0.3)
    stop.set()
    done = await asyncio.gather(*tasks)

    assert all(looks > 0 for looks in done[len(writers) :])
    assert sum(w.written for w in writers) > written
    assert (await world.reread()).placement == 1
    found = await world.stored()
    expected = {key: state for w in writers for key, state in w.expected.items()}
    assert {key: a for key, (a, _) in found.items() if key[1][0] == "w"} == expected
    assert {key: no for key, (_, no) in found.items() if key[1][0] == "s"} == numbers
    assert await world.leftovers() == [0, 0, 0]
    assert await world.placements.unfinished() == []


@pytest.mark.parametrize("phase", PHASES)
async def test_move_interrupted_in_a_phase_goes_on_from_there(world: World, phase: str) -> None:
    await world.fill(350)
    await world.placements.request_move("shop")
    await _steps_until(world, phase)
    before = await world.stored()

    writer = _Writer(world, 1)
    await world.reread()
    for key in writer.names[:20]:
        await writer._once(key)
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
        while not done.is_set():
            async with world.maintenance.transaction(None) as connection:
                await connection.execute("RESET ROLE")
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE '%penchant_move_%' AND pid <> pg_backend_pid()"
                    " AND random() < 0.5"
                )
                await connection.execute("SET ROLE penchant_maintenance")
            await asyncio.sleep(0.02)

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
    await _steps_until(world, "copying")
    await world.fill(80, other)
    await world.placements.move("shop")
    assert await world.entities.count(await world.tenants.get("other"), 1000) == 80
    assert await world.entities.count(await world.reread(), 1000) == 300


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
    vector = _vector(np.random.default_rng(1))
    async with world.service.connection("shop") as connection:
        plan = await connection.fetch(
            "EXPLAIN " + candidates(frozenset({"content"}), DIMENSION),
            *(tenant.tenant_id, tenant.version, tenant.placement, None, 20, None, None),
            *([], [], None, [], vector, None, [], [], None, [], []),
        )
    assert any("entities_p1_hnsw" in row[0] for row in plan)


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
    await _steps_until(world, "switching")
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
    writer = _Writer(world, 1)
    for key in writer.names:
        await writer._once(key)
    await world.placements.request_move("shop")
    if until != "requested":
        await _steps_until(world, until)
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
    assert await world.entities.count(await world.tenants.get("other"), 100) == 5
