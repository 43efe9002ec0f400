"""Models, versions and promotions: numbers never repeat, and what serves is never lost."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from storage.database import Database
from storage.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StaleTenant,
)
from storage.models import ModelStore, Serving, VersionRow
from storage.tenants import Tenant, TenantSettings, TenantStore


@pytest.fixture
def store(database: Database, maintenance_database: Database) -> ModelStore:
    return ModelStore(database, maintenance_database)


async def add(
    store: ModelStore, tenant: Tenant, name: str = "m", version: str | None = None
) -> VersionRow:
    return await store.add_version(
        tenant,
        name,
        manifest={"form": "neighbours"},
        metadata={"algorithm": "spectral"},
        content_hash=f"{name}-{version}",
        size_bytes=10,
        version=version,
    )


async def trained(store: ModelStore, tenant: Tenant, count: int, name: str = "m") -> None:
    """A model with versions 1 to count, each of which was promoted."""
    await store.create(tenant, name, algorithm="spectral")
    for number in range(1, count + 1):
        await add(store, tenant, name)
        await store.promote(tenant, name, str(number), "trained")


def served(serving: Serving | None) -> str | None:
    return None if serving is None else f"{serving.model_name}@{serving.version}"


async def test_created_model_is_read_back(store: ModelStore, shop: Tenant) -> None:
    run_at = datetime(2030, 1, 2, 3, tzinfo=UTC)
    made = await store.create(
        shop,
        "m",
        algorithm="als",
        hyperparameters={"factors": 64, "alpha": 1.5},
        schedule="0 3 * * *",
        next_run_at=run_at,
        promotion="never",
        keep_versions=2,
        retention_days=7,
    )
    assert await store.get(shop, "m") == made
    assert made.hyperparameters == {"factors": 64, "alpha": 1.5}
    assert (made.schedule, made.next_run_at) == ("0 3 * * *", run_at)
    assert (made.promotion, made.keep_versions, made.retention_days) == ("never", 2, 7)
    assert made.deleted_at is None


async def test_name_of_a_model_is_taken_once(store: ModelStore, shop: Tenant) -> None:
    await store.create(shop, "m", algorithm="als")
    with pytest.raises(AlreadyExists) as caught:
        await store.create(shop, "m", algorithm="bpr")
    assert caught.value.reason == "MODEL_EXISTS"
    assert (await store.get(shop, "m")).algorithm == "als"


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "x" * 64, "é", "a\n"])
async def test_malformed_name_is_refused(store: ModelStore, shop: Tenant, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"model\.name"):
        await store.create(shop, name, algorithm="als")


async def test_missing_model_is_not_found(store: ModelStore, shop: Tenant) -> None:
    for work in (
        store.get(shop, "m"),
        store.update(shop, "m", schedule=""),
        store.delete(shop, "m"),
        add(store, shop),
    ):
        with pytest.raises(NotFound) as caught:
            await work
        assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_update_changes_the_named_columns_alone(store: ModelStore, shop: Tenant) -> None:
    run_at = datetime(2030, 1, 2, tzinfo=UTC)
    made = await store.create(
        shop, "m", algorithm="als", hyperparameters={"a": 1}, next_run_at=run_at
    )
    changed = await store.update(shop, "m", hyperparameters={"b": 2}, keep_versions=9)
    assert changed == replace(
        made, hyperparameters={"b": 2}, keep_versions=9, updated_at=changed.updated_at
    )
    assert changed.updated_at > made.updated_at
    assert (await store.update(shop, "m", next_run_at=None)).next_run_at is None


async def test_pages_are_in_byte_order_and_hide_the_deleted(
    store: ModelStore, shop: Tenant
) -> None:
    for name in ("b", "a", "C", "d"):
        await store.create(shop, name, algorithm="als")
    await store.delete(shop, "b")
    assert [m.model_name for m in await store.page(shop, "", 2)] == ["C", "a"]
    assert [m.model_name for m in await store.page(shop, "a", 9)] == ["d"]
    assert [m.model_name for m in await store.page(shop, "a", 9, deleted=True)] == ["b", "d"]


async def test_version_numbers_go_on_after_deletion_and_clean_up(
    store: ModelStore, shop: Tenant
) -> None:
    await store.create(shop, "m", algorithm="als")
    numbers = [(await add(store, shop)).version for _ in range(2)]
    await store.delete_version(shop, "m", "2")
    assert [v.version for v in await store.clean_up(shop, "m")] == ["2"]
    numbers.append((await add(store, shop)).version)
    await store.delete(shop, "m")
    await store.clean_up(shop)
    await store.create(shop, "m", algorithm="bpr")
    numbers.append((await add(store, shop)).version)
    assert numbers == ["1", "2", "3", "4"]
    assert [v.version for v in await store.versions(shop, "m", deleted=True)] == ["4"]


async def test_concurrent_versions_get_distinct_numbers_in_order_of_time(
    store: ModelStore, shop: Tenant
) -> None:
    await store.create(shop, "m", algorithm="als")
    added = await asyncio.gather(*(add(store, shop) for _ in range(20)))
    assert sorted(int(v.version) for v in added) == list(range(1, 21))
    newest_first = [int(v.version) for v in await store.versions(shop, "m")]
    assert newest_first == list(range(20, 0, -1))


async def test_named_version_is_given_once(store: ModelStore, shop: Tenant) -> None:
    await store.create(shop, "m", algorithm="als")
    assert (await add(store, shop, version="1.0")).version == "1.0"
    assert (await add(store, shop, version="7")).version == "7"
    assert (await add(store, shop)).version == "8"
    for taken in ("1.0", "7", "3", "8"):
        with pytest.raises(AlreadyExists):
            await add(store, shop, version=taken)
    for bad in ("latest", "", "x" * 51, "9" * 20):
        with pytest.raises(InvalidArgument):
            await add(store, shop, version=bad)


async def test_latest_is_the_newest_active_version(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 3)
    await store.delete_version(shop, "m", "3", force=True)
    assert (await store.version(shop, "m")).version == "2"
    assert (await store.version(shop, "m", "1")).manifest == {"form": "neighbours"}
    with pytest.raises(NotFound) as caught:
        await store.version(shop, "m", "3")
    assert caught.value.reason == "VERSION_NOT_FOUND"
    assert not (await store.version(shop, "m", "3", deleted=True)).is_active
    await store.create(shop, "empty", algorithm="als")
    latest = await store.latest_versions(shop)
    assert {name: v.version for name, v in latest.items()} == {"m": "2"}
    assert await store.latest_versions(shop, ["empty"]) == {}


async def test_versions_are_paged_newest_first(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 5)
    await store.delete_version(shop, "m", "2")
    seen: list[str] = []
    before = None
    while page := await store.versions(shop, "m", before, 2):
        seen += [v.version for v in page]
        before = (page[-1].created_at, page[-1].version)
    assert seen == ["5", "4", "3", "1"]
    everything = await store.versions(shop, "m", deleted=True)
    assert [v.version for v in everything] == ["5", "4", "3", "2", "1"]


async def test_nothing_serves_before_a_promotion(store: ModelStore, shop: Tenant) -> None:
    await store.create(shop, "m", algorithm="als")
    await add(store, shop)
    assert await store.serving(shop) is None
    assert await store.promotions(shop) == []


async def test_promotions_are_kept_newest_first(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 2)
    again = await store.promote(shop, "m", "latest", "again")
    assert again == await store.serving(shop)
    assert (again.content_hash, again.size_bytes) == ("m-None", 10)
    off = await store.promote(shop, "m", "", "switched off")
    assert off.version == ""
    assert await store.serving(shop) is None
    history = await store.promotions(shop)
    assert [(p.version, p.reason) for p in history] == [
        ("", "switched off"),
        ("2", "trained"),
        ("1", "trained"),
    ]
    assert [p.revision for p in history] == sorted((p.revision for p in history), reverse=True)
    assert len(await store.promotions(shop, 1)) == 1


async def test_promotion_of_what_cannot_serve_is_refused(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 3)
    await store.delete_version(shop, "m", "1")
    await store.set_problem(shop, "m", "2", "it is cut off")
    for version in ("1", "9"):
        with pytest.raises(NotFound):
            await store.promote(shop, "m", version, "")
    with pytest.raises(FailedPrecondition, match="it is cut off") as caught:
        await store.promote(shop, "m", "2", "")
    assert caught.value.reason == "ARTEFACT_CORRUPT"
    assert served(await store.serving(shop)) == "m@3"
    await store.set_problem(shop, "m", "2", "")
    assert (await store.promote(shop, "m", "2", "mended")).version == "2"


async def test_concurrent_promotions_become_visible_in_their_order(
    store: ModelStore, shop: Tenant
) -> None:
    await trained(store, shop, 4)
    done = await asyncio.gather(*(store.promote(shop, "m", str(n), "race") for n in (1, 2, 3)))
    newest = max(done, key=lambda serving: serving.revision)
    assert await store.serving(shop) == newest


async def test_fall_back_serves_the_earlier_version_once_for_all_workers(
    store: ModelStore, shop: Tenant
) -> None:
    await trained(store, shop, 3)
    await store.set_problem(shop, "m", "2", "missing")
    broken = await store.serving(shop)
    assert broken is not None
    outcomes = await asyncio.gather(*(store.fall_back(shop, broken, "altered") for _ in range(4)))
    assert {served(outcome) for outcome in outcomes} == {"m@1"}
    assert served(await store.fall_back(shop, broken, "altered")) == "m@1"
    assert len(await store.promotions(shop)) == 4
    assert (await store.promotions(shop))[0].reason == "fell back: altered"
    assert (await store.version(shop, "m", "3")).problem == "altered"


async def test_fall_back_without_an_earlier_version_serves_nothing(
    store: ModelStore, shop: Tenant
) -> None:
    await trained(store, shop, 1)
    broken = await store.serving(shop)
    assert broken is not None
    for _ in range(2):
        assert await store.fall_back(shop, broken, "altered") is None
    assert await store.serving(shop) is None
    assert [p.version for p in await store.promotions(shop)] == ["", "1"]


async def test_fall_back_leaves_what_was_promoted_meanwhile(
    store: ModelStore, shop: Tenant
) -> None:
    await trained(store, shop, 2)
    broken = await store.serving(shop)
    assert broken is not None
    await add(store, shop)
    await store.promote(shop, "m", "3", "trained")
    assert served(await store.fall_back(shop, broken, "altered")) == "m@3"
    assert (await store.version(shop, "m", "2")).problem == "altered"


async def test_roll_back_goes_on_from_where_it_went(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 3)
    assert served(await store.roll_back(shop, "m")) == "m@2"
    assert served(await store.roll_back(shop, "m")) == "m@1"
    with pytest.raises(FailedPrecondition) as caught:
        await store.roll_back(shop, "m")
    assert caught.value.reason == "NO_PREVIOUS_VERSION"
    assert served(await store.serving(shop)) == "m@1"
    await store.promote(shop, "m", "3", "after all")
    assert served(await store.roll_back(shop, "m")) == "m@1"


async def test_roll_back_of_a_model_that_does_not_serve_is_refused(
    store: ModelStore, shop: Tenant
) -> None:
    await trained(store, shop, 1)
    await trained(store, shop, 1, "other")
    with pytest.raises(FailedPrecondition, match="'m'"):
        await store.roll_back(shop, "m")
    assert served(await store.roll_back(shop, "other")) == "m@1"


async def test_serving_version_is_deleted_only_by_force(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 2)
    with pytest.raises(FailedPrecondition, match="m@2") as caught:
        await store.delete_version(shop, "m", "2")
    assert caught.value.reason == "MODEL_SERVING"
    await store.delete_version(shop, "m", "2", force=True)
    assert served(await store.serving(shop)) == "m@1"
    with pytest.raises(NotFound):
        await store.delete_version(shop, "m", "2", force=True)


async def test_serving_model_is_deleted_only_by_force(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 1, "before")
    await trained(store, shop, 2)
    with pytest.raises(FailedPrecondition):
        await store.delete(shop, "m")
    await store.delete(shop, "m", force=True)
    assert await store.serving(shop) is None
    assert await store.versions(shop, "m") == []
    assert [v.is_active for v in await store.versions(shop, "m", deleted=True)] == [False, False]
    with pytest.raises(NotFound):
        await store.get(shop, "m")


async def test_clean_up_removes_beyond_the_newest_but_never_what_serves(
    store: ModelStore, shop: Tenant
) -> None:
    await trained(store, shop, 6)
    await store.promote(shop, "m", "1", "the old one")
    removed = await store.clean_up(shop, "m", keep=2)
    assert [v.version for v in removed] == ["2", "3", "4"]
    assert [v.version for v in await store.versions(shop, "m")] == ["6", "5", "1"]
    assert served(await store.serving(shop)) == "m@1"
    assert await store.clean_up(shop, "m", keep=2) == []


async def test_clean_up_goes_by_age_and_each_models_own_limits(
    store: ModelStore, shop: Tenant, maintenance_database: Database
) -> None:
    await trained(store, shop, 3, "few")
    await trained(store, shop, 3, "old")
    await store.update(shop, "few", keep_versions=1)
    async with maintenance_database.connection(None) as connection:
        await connection.execute(
            "UPDATE ml_models SET created_at = created_at - interval '91 days'"
            " WHERE model_name = 'old'"
        )
    removed = await store.clean_up(shop)
    assert [(v.model_name, v.version) for v in removed] == [
        ("few", "1"),
        ("few", "2"),
        ("old", "1"),
        ("old", "2"),
    ]
    assert served(await store.serving(shop)) == "old@3"


async def test_storage_stats_count_versions_and_bytes(store: ModelStore, shop: Tenant) -> None:
    await trained(store, shop, 3)
    await store.delete_version(shop, "m", "1")
    (stats,) = await store.storage_stats(shop)
    assert (stats.model_name, stats.versions, stats.active_versions) == ("m", 3, 2)
    assert stats.size_bytes == 30
    assert stats.oldest < stats.newest


async def test_hashes_in_use_are_those_of_all_tenants(
    store: ModelStore, tenants: TenantStore, shop: Tenant, database: Database
) -> None:
    other = await tenants.create("other")
    for tenant, version in ((shop, "a"), (other, "b")):
        await store.create(tenant, "m", algorithm="als")
        await add(store, tenant, version=version)
    await store.delete(other, "m")
    assert await store.hashes_in_use() == {"m-a", "m-b"}
    for blind in (ModelStore(database), ModelStore(database, database)):
        with pytest.raises(ValueError, match="all tenants"):
            await blind.hashes_in_use()


async def test_tenants_never_see_each_others_models(
    store: ModelStore, tenants: TenantStore, shop: Tenant
) -> None:
    other = await tenants.create("other")
    await trained(store, shop, 2)
    assert await store.page(other, "", 10, deleted=True) == []
    assert await store.versions(other, "m", deleted=True) == []
    assert await store.serving(other) is None
    assert await store.promotions(other) == []
    assert await store.storage_stats(other) == []
    with pytest.raises(NotFound):
        await store.get(other, "m")
    with pytest.raises(NotFound):
        await store.promote(other, "m", "1", "")
    await trained(store, other, 1)
    assert await store.clean_up(other, keep=1, retention_days=1) == []
    await store.delete(other, "m", force=True)
    await store.clean_up(other)
    assert served(await store.serving(shop)) == "m@2"
    assert len(await store.versions(shop, "m")) == 2


async def test_old_tenant_row_is_stale(
    store: ModelStore, tenants: TenantStore, shop: Tenant
) -> None:
    await trained(store, shop, 2)
    new = await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    serving = await store.serving(new)
    assert serving is not None
    for work in (
        store.create(shop, "n", algorithm="als"),
        store.get(shop, "m"),
        store.page(shop, "", 1),
        store.update(shop, "m", schedule=""),
        store.delete(shop, "m"),
        add(store, shop),
        store.version(shop, "m"),
        store.latest_versions(shop),
        store.versions(shop, "m"),
        store.set_problem(shop, "m", "1", ""),
        store.delete_version(shop, "m", "1"),
        store.clean_up(shop),
        store.serving(shop),
        store.promote(shop, "m", "1", ""),
        store.promotions(shop),
        store.fall_back(shop, serving, "x"),
        store.roll_back(shop, "m"),
        store.storage_stats(shop),
    ):
        with pytest.raises(StaleTenant):
            await work
