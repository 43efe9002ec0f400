"""A tenant with writers and readers that know what must be stored."""

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from storage.database import Database
from storage.entities import Change, EntityKey, EntityRow, EntityStore
from storage.exceptions import Aborted, StaleTenant
from storage.interactions import InteractionRow, InteractionStore
from storage.placements import PlacementStore
from storage.tenants import Tenant, TenantStore

DIMENSION = 16


def random_vector(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def entity_state(key: EntityKey, n: int, vector: np.ndarray) -> Change:
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
                tenant or self.tenant,
                {key: entity_state(key, 0, random_vector(rng)) for key in keys},
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


async def steps_until(world: World, phase: str) -> None:
    while await world.placements.step(world.tenant.tenant_id) != phase:
        pass
    await world.reread()


class Writer:
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
            await self.write(self.random.choice(self.names))
            await asyncio.sleep(0)

    async def write(self, key: EntityKey) -> None:
        self.written += 1
        n = self.written
        vector = random_vector(self.rng)
        kind = self.random.choice(["upsert", "upsert", "delete", "ingest"])
        while True:
            tenant = self.world.tenant
            try:
                if kind == "upsert":
                    await self.world.entities.apply(tenant, {key: entity_state(key, n, vector)})
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


async def keep_reading(world: World, stop: asyncio.Event, stable: int) -> int:
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
                limit=100_000,
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


async def keep_counting(world: World, stop: asyncio.Event, stable: int) -> int:
    """Looks at all partitions at once: no name twice, and under the guard none missing."""
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
