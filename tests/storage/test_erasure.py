"""Erasure in PostgreSQL: nothing is overlooked, and nothing slips in beside it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from storage import erasure
from storage.database import Database
from storage.erasure import ErasureStore, ReceiptRow
from storage.exceptions import Aborted, StaleTenant
from storage.interactions import InteractionRow, InteractionStore
from storage.models import ModelStore
from storage.operations import OperationStore
from storage.queries import load
from storage.retention import RetentionStore
from storage.tenants import Tenant, TenantStore
from tests.storage.test_row_level_security import owner, tables  # noqa: F401 - a fixture

ADA, BOB = b"a" * 32, b"b" * 32
HASHES = {"ada": ADA, "bob": BOB}

PERSONAL = """
SELECT c.relname FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
    AND EXISTS (
        SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
            AND (a.attname LIKE '%user_id%' OR a.attname = 'entity_id')
    )
"""


@dataclass
class Shop:
    """A tenant and its stores."""

    owner: Database
    maintenance: Database
    service: Database
    tenants: TenantStore
    interactions: InteractionStore
    erasures: ErasureStore
    tenant: Tenant

    async def reread(self) -> Tenant:
        self.tenant = await self.tenants.get("shop")
        return self.tenant

    def row(self, user_id: str = "ada", number: int = 0, **fields: object) -> InteractionRow:
        given = {"entity_type": "item", "entity_id": "i", "timestamp": datetime.now(UTC), **fields}
        return InteractionRow(
            interaction_id=f"{user_id}{number}",
            user_id=user_id,
            interaction_type="view",
            weight=1.0,
            user_hash=HASHES[user_id],
            **given,  # type: ignore[arg-type]
        )

    async def did(self, *rows: InteractionRow) -> list[str]:
        return [o.status for o in await self.interactions.ingest(self.tenant, rows)]

    async def erase(self, user_id: str = "ada", *, readmit: bool = False) -> erasure.Removed:
        await self.erasures.refuse(self.tenant, HASHES[user_id])
        await self.reread()
        return await self.erasures.remove(self.tenant, user_id, HASHES[user_id], readmit=readmit)


@pytest.fixture
async def shop(
    owner_database: Database, maintenance_database: Database, database: Database
) -> Shop:
    tenants = TenantStore(database, maintenance_database)
    return Shop(
        owner_database,
        maintenance_database,
        database,
        tenants,
        InteractionStore(database),
        ErasureStore(database, maintenance_database),
        await tenants.create("shop", dimension=4),
    )


async def test_every_table_of_people_is_searched_and_emptied(shop: Shop) -> None:
    async with shop.owner.connection(None) as connection:
        tables = {row["relname"] for row in await connection.fetch(PERSONAL)}
    searched = set(await shop.erasures.find("shop", "ada"))
    assert tables - searched == set()
    removed = set((await shop.erase()).counts) - {"operations"}
    assert searched - removed == {"placement_changes"}  # a move under way puts the erasure off


async def test_waiting_ingest_is_removed(shop: Shop) -> None:
    """What a writer had under way when the erasure came is there when the rows are removed."""
    async with shop.service.transaction("shop") as writer:
        guard = (shop.tenant.tenant_id, shop.tenant.tenant_no, shop.tenant.version)
        await writer.execute(load("entities")["guard_write"], *guard)
        with pytest.raises(Aborted):
            await shop.erasures.refuse(shop.tenant, ADA)
        await writer.execute(
            "INSERT INTO user_profiles (tenant_id, user_id, landmark) VALUES ('shop', 'ada', now())"
        )
    assert (await shop.erase()).counts["user_profiles"] == 1


async def test_ingest_that_waits_for_an_erasure_is_refused(shop: Shop) -> None:
    """The statement's own snapshot is older than the tombstone; the check must not be."""
    await shop.erase("bob")
    async with shop.maintenance.transaction("shop") as connection:
        await connection.execute(load("tenants")["lock_tenant"], shop.tenant.tenant_no)
        waiting = asyncio.create_task(shop.did(shop.row("ada", 1)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await connection.execute(load("erasure")["put_tombstone"], "shop", ADA)
    assert await waiting == ["erased"]


async def test_worker_that_knows_of_no_erased_user_reads_the_tenant_again(shop: Shop) -> None:
    before = shop.tenant
    await shop.erase()
    assert (before.has_erased_users, shop.tenant.has_erased_users) == (False, True)
    with pytest.raises(StaleTenant):
        await shop.interactions.ingest(before, [shop.row()])
    version = shop.tenant.version
    await shop.erase("bob")
    assert shop.tenant.version == version


async def test_rows_without_hashes_are_a_fault(shop: Shop) -> None:
    await shop.erase("bob")
    row = InteractionRow("i", "ada", "item", "i", "view", 1.0, datetime.now(UTC))
    with pytest.raises(ValueError, match="hashes"):
        await shop.did(row)


async def test_rows_of_one_batch_fare_differently(shop: Shop) -> None:
    await shop.erase()
    about = shop.row("bob", 2, entity_type="user", entity_id="ada", entity_hash=ADA)
    rows = [shop.row("bob"), shop.row("ada"), about, shop.row("bob")]
    assert await shop.did(*rows) == ["stored", "erased", "erased", "duplicate"]
    assert not any((await shop.erasures.find("shop", "ada")).values())


async def test_readmitted_user_is_refused_what_is_older(shop: Shop) -> None:
    await shop.erase(readmit=True)
    old = shop.row(number=1, timestamp=datetime.now(UTC) - timedelta(hours=1))
    assert await shop.did(old, shop.row(number=2)) == ["erased", "stored"]


async def test_interrupted_erasure_loses_no_count(shop: Shop) -> None:
    await shop.did(shop.row(number=1), shop.row(number=2))
    assert (await shop.erase()).counts["interactions"] == 2
    again = await shop.erase()
    assert again.counts["interactions"] == 2
    receipt = ReceiptRow("shop", "r", "user", datetime.now(UTC), b"{}", b"s" * 64, "k")
    await shop.erasures.add_receipt(receipt, ADA)
    assert await shop.erasures.receipt("shop", "r") == receipt
    assert (await shop.erase()).counts["interactions"] == 0


async def test_interactions_about_the_user_leave_others_rebuilt(shop: Shop) -> None:
    await shop.did(shop.row("bob", 1, entity_type="user", entity_id="ada"))
    removed = await shop.erase()
    assert (removed.counts["interactions"], removed.counts["entities"]) == (1, 1)
    async with shop.maintenance.connection(None) as connection:
        assert await connection.fetchval("SELECT count(*) FROM user_profiles") == 0


@pytest.mark.parametrize(
    ("key", "removed"),
    [
        ("recs:ada", True),
        ("ada", True),
        ("recs/ada?k=10", True),
        ("recs:adam", False),
        ("recs:canada:1", False),
    ],
)
async def test_predictions_under_the_id_are_removed(shop: Shop, key: str, removed: bool) -> None:
    async with shop.maintenance.connection(None) as connection:
        await connection.execute(
            "INSERT INTO prediction_cache (tenant_id, cache_key, predictions, expires_at)"
            " VALUES ('shop', $1, '', now() + interval '1 hour')",
            key,
        )
    assert (await shop.erasures.find("shop", "ada"))["prediction_cache"] == removed
    assert (await shop.erase()).counts["prediction_cache"] == removed


async def test_versions_that_saw_the_user_are_named(shop: Shop) -> None:
    models = ModelStore(shop.service)
    await models.create(shop.tenant, "m", algorithm="als")

    async def train() -> None:
        await models.add_version(
            shop.tenant, "m", manifest={}, metadata={}, content_hash="0" * 64, size_bytes=1
        )

    await train()
    await shop.did(shop.row())
    await train()
    removed = await shop.erase()
    assert (removed.model_versions, removed.trainable) == (("m@2",), False)


async def test_training_under_way_begins_anew(shop: Shop) -> None:
    operations = OperationStore(shop.service, shop.maintenance)
    started = await operations.start(shop.tenant, "train", "m", {})
    assert await operations.claim("first", 30) is not None
    assert (await shop.erase()).counts["operations"] == 1
    assert (await operations.get(shop.tenant, started.operation_id)).state == "pending"
    assert not await operations.report(started.operation_id, "first", "", 0.5, 30)
    assert await operations.claimed(started.operation_id, "first") is None


async def test_erasure_is_put_off_while_the_users_entity_moves(shop: Shop) -> None:
    await shop.did(shop.row("bob", 1, entity_type="user", entity_id="ada"))
    async with shop.maintenance.connection(None) as connection:
        await connection.execute(
            "INSERT INTO placement_moves (tenant_id, from_placement, to_placement, phase)"
            " VALUES ('shop', 0, 7, 'copying')"
        )
    with pytest.raises(Aborted):
        await shop.erase()
    assert await shop.did(shop.row("ada")) == ["erased"]


async def test_receipts_can_be_neither_changed_nor_deleted(shop: Shop) -> None:
    receipt = ReceiptRow("shop", "r", "user", datetime.now(UTC), b"{}", b"s" * 64, "k")
    await shop.erase()
    await shop.erasures.add_receipt(receipt, ADA)
    for database in (shop.service, shop.maintenance):
        for statement in (
            "UPDATE erasure_receipts SET key_id = ''",
            "DELETE FROM erasure_receipts",
        ):
            with pytest.raises(Exception, match="permission denied"):
                async with database.connection("shop") as connection:
                    await connection.execute(statement)
    assert await shop.erasures.receipt("shop", "r") == receipt


async def test_erased_tenant_leaves_nothing_in_any_table(
    owner: asyncpg.Connection,  # noqa: F811 - the fixture: two tenants with rows everywhere
    owner_database: Database,
    maintenance_database: Database,
) -> None:
    told: dict[str, int] = {}

    def receipt(tenant_id: str, at: datetime, counts: Mapping[str, int]) -> ReceiptRow:
        told.update(counts)
        return ReceiptRow(tenant_id, "of tenant", "tenant", at, b"{}", b"s" * 64, "k")

    before = {name: await rows_by_tenant(owner, name) for name in await tables(owner)}
    await owner.execute("UPDATE placement_moves SET phase = 'copying' WHERE tenant_id = 'a'")
    await owner.execute("UPDATE tenants SET state = 'erasing' WHERE tenant_id = 'a'")
    await RetentionStore(owner_database, maintenance_database).erase("a", receipt)
    after = {name: await rows_by_tenant(owner, name) for name in await tables(owner)}
    kept = {"tenants", "erased_users", "erasure_receipts", "audit_events"}
    assert {name for name, found in after.items() if "a" in found} == kept
    assert {n: c.get("b") for n, c in after.items()} == {n: before[n].get("b") for n in after}
    parents = {name for name in after if not name.startswith(("entities_", "interactions_"))}
    parents = {name for name in parents if not name.startswith("answer_log_")}
    given_up = {"placement_moves", "placement_changes"}
    counted = parents - kept - given_up
    assert {name: told.get(name) for name in counted} == {
        name: before[name].get("a", 0) for name in counted
    }


async def rows_by_tenant(connection: asyncpg.Connection, table: str) -> dict[str, int]:
    return dict(
        await connection.fetch(f'SELECT tenant_id, count(*) FROM "{table}" GROUP BY tenant_id')
    )
