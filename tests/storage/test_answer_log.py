"""The answer log: what is written together, who may read it, and how it is forgotten."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from storage.answer_log import AnswerLogStore, AnswerRow, NewAnswer, delete_user
from storage.database import Database
from storage.exceptions import StaleTenant
from storage.retention import RetentionStore
from storage.tenants import Tenant, TenantStore

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
HASH = b"h" * 32


@pytest.fixture
def store(database: Database, maintenance_database: Database) -> AnswerLogStore:
    """The answer log of the test's database."""
    return AnswerLogStore(database, maintenance_database)


@pytest.fixture
def retention(owner_database: Database, maintenance_database: Database) -> RetentionStore:
    """The housekeeping of the test's database, with small slices."""
    return RetentionStore(owner_database, maintenance_database, slice_size=2)


def answer(
    recommendation_id: str = "r1", user_id: str = "ada", at: datetime = NOW, days: float = 7
) -> AnswerRow:
    return AnswerRow(recommendation_id, user_id, at, at + timedelta(days=days), ("m@1",), b"\0p")


def new(tenant_id: str, *answers: AnswerRow, user_hash: bytes = HASH) -> Iterable[NewAnswer]:
    return [NewAnswer(tenant_id, row, user_hash) for row in answers]


async def partitions(owner: Database) -> list[str]:
    async with owner.connection(None) as connection:
        rows = await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
            " WHERE inhparent = 'answer_log'::regclass ORDER BY 1"
        )
    return [row["name"] for row in rows]


async def test_answers_of_several_tenants_are_written_together(
    store: AnswerLogStore, tenants: TenantStore, shop: Tenant
) -> None:
    other = await tenants.create("other")
    first, second = answer(), replace(answer("r2", ""), model_versions=())
    stored = await store.write([*new("shop", first), *new("other", second)])
    assert stored == {"r1", "r2"}
    assert await store.get(shop, "r1") == first
    assert await store.get(other, "r2") == second
    assert await store.get(other, "r1") is None
    assert await store.get(shop, "r2") is None


async def test_an_answer_is_not_read_after_its_time(store: AnswerLogStore, shop: Tenant) -> None:
    past = answer(at=NOW - timedelta(days=1), days=0.9)
    assert await store.write([*new("shop", past)]) == {"r1"}
    assert await store.get(shop, "r1") is None
    assert await store.count_user("shop", "ada") == 1


async def test_get_for_a_changed_tenant_is_refused(store: AnswerLogStore, shop: Tenant) -> None:
    with pytest.raises(StaleTenant):
        await store.get(replace(shop, version=shop.version + 1), "r1")


async def test_answers_of_erased_tenants_and_users_are_not_written(
    store: AnswerLogStore, tenants: TenantStore, shop: Tenant, maintenance_database: Database
) -> None:
    await tenants.create("gone")
    await tenants.begin_erasure("gone")
    async with maintenance_database.connection(None) as connection:
        await connection.execute(
            "INSERT INTO erased_users (tenant_id, user_hash, erased_at, readmitted)"
            " VALUES ('shop', $1, $3, false), ('shop', $2, $3, true)",
            b"1" * 32,
            b"2" * 32,
            NOW,
        )
    before, after = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
    stored = await store.write(
        [
            *new("gone", answer("of the tenant")),
            *new("none", answer("of nobody")),
            *new("shop", answer("erased", at=after), user_hash=b"1" * 32),
            *new("shop", answer("before", at=before), user_hash=b"2" * 32),
            *new("shop", answer("readmitted", at=after), user_hash=b"2" * 32),
            *new("shop", answer("other")),
        ]
    )
    assert stored == {"readmitted", "other"}


async def test_delete_user_forgets_the_answers_of_one_user(
    store: AnswerLogStore, tenants: TenantStore, shop: Tenant, maintenance_database: Database
) -> None:
    await tenants.create("other")
    mine = [answer("r1"), answer("r2", at=NOW - timedelta(days=3)), answer("r3", "bob")]
    await store.write([*new("shop", *mine), *new("other", answer("r4"))])
    assert await store.delete_user("shop", "ada") == 2
    assert await store.count_user("shop", "ada") == 0
    assert await store.count_user("shop", "bob") == 1
    assert await store.count_user("other", "ada") == 1
    async with maintenance_database.transaction(None) as connection:
        assert await delete_user(connection, "shop", "bob") == 1
    assert await store.count_user("shop", "bob") == 0


async def test_partitions_are_made_for_the_days_to_come(
    retention: RetentionStore, owner_database: Database
) -> None:
    before = await partitions(owner_database)
    made = await retention.ensure_answer_partitions(5)
    assert 2 <= made <= 3
    names = {f"answer_log_{TODAY + timedelta(days=n):%Y_%m_%d}" for n in range(6)}
    assert names <= {*await partitions(owner_database)}
    assert {*before} <= {*await partitions(owner_database)}
    assert await retention.ensure_answer_partitions(5) == 0


async def test_drop_answers_drops_the_days_before_and_nothing_else(
    store: AnswerLogStore, retention: RetentionStore, owner_database: Database, shop: Tenant
) -> None:
    async with owner_database.connection(None) as connection:
        for ago in (3, 2, 1):
            day = TODAY - timedelta(days=ago)
            await connection.execute(
                f"CREATE TABLE answer_log_{day:%Y_%m_%d} PARTITION OF answer_log"
                f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
            )
    days = [answer(f"of {n}", at=TODAY - timedelta(days=n), days=9) for n in range(4)]
    loose = [
        answer(f"loose {n}", at=TODAY - timedelta(days=30, hours=n), days=99) for n in (1, 2, 3)
    ]
    await store.write([*new("shop", *days, *loose)])
    assert await retention.drop_answers(TODAY - timedelta(days=1)) == 2
    left = [row.recommendation_id for row in days if await store.get(shop, row.recommendation_id)]
    assert left == ["of 0", "of 1"]
    assert [await store.get(shop, row.recommendation_id) for row in loose] == [None] * 3
    assert await retention.drop_answers(TODAY - timedelta(days=1)) == 0


async def test_a_day_whose_rows_came_before_its_partition_is_passed_over(
    store: AnswerLogStore, retention: RetentionStore, owner_database: Database, shop: Tenant
) -> None:
    await store.write([*new("shop", answer(at=TODAY + timedelta(days=9, hours=3)))])
    await retention.ensure_answer_partitions(10)
    names = await partitions(owner_database)
    assert f"answer_log_{TODAY + timedelta(days=9):%Y_%m_%d}" not in names
    assert f"answer_log_{TODAY + timedelta(days=10):%Y_%m_%d}" in names
    assert await store.get(shop, "r1") is not None
