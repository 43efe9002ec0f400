"""Cached predictions: for a time, counted as they are read, cleared by a pattern."""

import asyncio

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Database
from storage.exceptions import InvalidArgument, StaleTenant
from storage.predictions import PredictionCache, like_pattern
from storage.tenants import Tenant, TenantSettings, TenantStore


@pytest.fixture
def cache(database: Database, maintenance_database: Database) -> PredictionCache:
    return PredictionCache(database, maintenance_database)


async def expire(maintenance: Database, pattern: str = "%") -> None:
    async with maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE prediction_cache SET cached_at = cached_at - interval '1 day',"
            " expires_at = now() - interval '1 second' WHERE cache_key LIKE $1",
            pattern,
        )


async def keys(cache: PredictionCache, tenant: Tenant, names: list[str]) -> set[str]:
    return {name for name in names if await cache.get_cached_predictions(tenant, name)}


async def test_predictions_are_read_back_and_counted(cache: PredictionCache, shop: Tenant) -> None:
    value = {"recommendations": [1, 2], "scores": [0.9, 0.8]}
    expires_at = await cache.cache_predictions(shop, "k", value, 60, {"model": "m"})
    first = await cache.get_cached_predictions(shop, "k")
    second = await cache.get_cached_predictions(shop, "k")
    assert first is not None
    assert second is not None
    assert (first.value(), first.metadata) == (value, {"model": "m"})
    assert (first.access_count, second.access_count) == (1, 2)
    assert second.last_accessed > first.last_accessed
    assert first.expires_at == expires_at
    assert (first.expires_at - first.cached_at).total_seconds() == 60
    assert await cache.get_cached_predictions(shop, "other") is None


async def test_concurrent_reads_are_all_counted(cache: PredictionCache, shop: Tenant) -> None:
    await cache.cache_predictions(shop, "k", [1])
    await asyncio.gather(*(cache.get_cached_predictions(shop, "k") for _ in range(20)))
    assert (await cache.get_cache_statistics(shop)).accesses == 20


async def test_key_is_replaced_with_its_counts(cache: PredictionCache, shop: Tenant) -> None:
    await cache.cache_predictions(shop, "k", [1], metadata={"a": 1})
    await cache.get_cached_predictions(shop, "k")
    await cache.cache_predictions(shop, "k", [2])
    found = await cache.get_cached_predictions(shop, "k")
    assert found is not None
    assert (found.value(), found.metadata, found.access_count) == ([2], {}, 1)


async def test_bytes_and_arrays_are_kept(cache: PredictionCache, shop: Tenant) -> None:
    await cache.cache_predictions(shop, "raw", b"\x00\xff")
    await cache.cache_predictions(shop, "array", np.array([0.5, 1.0], np.float32))
    raw = await cache.get_cached_predictions(shop, "raw")
    array = await cache.get_cached_predictions(shop, "array")
    assert raw is not None
    assert raw.predictions == b"\x00\xff"
    assert array is not None
    assert array.value() == [0.5, 1.0]


async def test_expired_predictions_are_not_found(
    cache: PredictionCache, shop: Tenant, maintenance_database: Database
) -> None:
    await cache.cache_predictions(shop, "k", [1], 0.01)
    await asyncio.sleep(0.02)
    assert await cache.get_cached_predictions(shop, "k") is None
    statistics = await cache.get_cache_statistics(shop)
    assert (statistics.entries, statistics.expired_entries, statistics.accesses) == (1, 1, 0)
    await cache.cache_predictions(shop, "k", [2])
    assert await keys(cache, shop, ["k"]) == {"k"}


@pytest.mark.parametrize(
    ("key", "value", "ttl", "field"),
    [
        ("", [], 1, "cache_key"),
        ("k" * 513, [], 1, "cache_key"),
        ("k", object(), 1, "predictions"),
        ("k", b"x" * (16 * 1024 * 1024 + 1), 1, "predictions"),
        ("k", [], 0, "ttl_seconds"),
        ("k", [], -1, "ttl_seconds"),
        ("k", [], float("nan"), "ttl_seconds"),
        ("k", [], float("inf"), "ttl_seconds"),
        ("k", [], 1e9, "ttl_seconds"),
    ],
    ids=["no key", "long key", "no json", "large", "zero", "negative", "nan", "inf", "for ever"],
)
async def test_bad_argument_is_named(
    cache: PredictionCache, shop: Tenant, key: str, value: object, ttl: float, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await cache.cache_predictions(shop, key, value, ttl)
    assert [v.field for v in caught.value.violations] == [field]


async def test_key_with_a_character_that_cannot_be_stored_is_refused(
    cache: PredictionCache, shop: Tenant
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await cache.cache_predictions(shop, "a\0b", [])
    assert caught.value.reason == "INVALID_TEXT"


@given(st.text(st.sampled_from("ab%_\\*."), max_size=12))
def test_like_pattern_escapes_all_but_the_star(pattern: str) -> None:
    like = like_pattern(pattern)
    unescaped = like.replace("\\\\", "").replace("\\%", "").replace("\\_", "")
    assert "\\" not in unescaped
    assert "_" not in unescaped
    assert unescaped.count("%") == pattern.count("*")


@pytest.mark.parametrize(
    ("pattern", "cleared"),
    [
        ("*", {"user1_a", "user1_b", "user2_a", "user1%a", "user1\\a"}),
        ("user1_*", {"user1_a", "user1_b"}),
        ("user1_a", {"user1_a"}),
        ("*_a", {"user1_a", "user2_a"}),
        ("user1%*", {"user1%a"}),
        ("user1\\*", {"user1\\a"}),
        ("user?_a", set()),
        ("user1", set()),
        ("", set()),
    ],
)
async def test_cache_is_cleared_by_a_pattern(
    cache: PredictionCache, shop: Tenant, pattern: str, cleared: set[str]
) -> None:
    names = ["user1_a", "user1_b", "user2_a", "user1%a", "user1\\a"]
    for name in names:
        await cache.cache_predictions(shop, name, [])
    assert await cache.clear_cache(shop, pattern) == len(cleared)
    assert await keys(cache, shop, names) == set(names) - cleared


async def test_statistics_describe_the_cache(
    cache: PredictionCache, shop: Tenant, maintenance_database: Database
) -> None:
    empty = await cache.get_cache_statistics(shop)
    assert (empty.entries, empty.size_bytes, empty.oldest, empty.last_accessed) == (
        0,
        0,
        None,
        None,
    )
    for name in ("a", "b", "c"):
        await cache.cache_predictions(shop, name, [1, 2])
    for _ in range(3):
        await cache.get_cached_predictions(shop, "a")
    await cache.get_cached_predictions(shop, "b")
    await expire(maintenance_database, "c")
    full = await cache.get_cache_statistics(shop)
    assert (full.entries, full.expired_entries, full.accesses, full.entries_used) == (3, 1, 4, 2)
    assert full.size_bytes == 3 * len(orjson.dumps([1, 2]))
    assert full.oldest is not None
    assert full.newest is not None
    assert full.oldest < full.newest


async def test_purge_removes_what_has_expired_of_all_tenants(
    cache: PredictionCache,
    tenants: TenantStore,
    shop: Tenant,
    database: Database,
    maintenance_database: Database,
) -> None:
    other = await tenants.create("other")
    for tenant in (shop, other):
        await cache.cache_predictions(tenant, "old", [])
        await cache.cache_predictions(tenant, "new", [])
    await expire(maintenance_database, "old")
    assert await cache.purge_expired() == 2
    assert await cache.purge_expired() == 0
    assert (await cache.get_cache_statistics(shop)).entries == 1
    with pytest.raises(ValueError, match="all tenants"):
        await PredictionCache(database).purge_expired()


async def test_tenants_never_see_each_others_predictions(
    cache: PredictionCache, tenants: TenantStore, shop: Tenant
) -> None:
    other = await tenants.create("other")
    await cache.cache_predictions(shop, "k", ["shop"])
    assert await cache.get_cached_predictions(other, "k") is None
    await cache.cache_predictions(other, "k", ["other"])
    assert await cache.clear_cache(other) == 1
    assert (await cache.get_cache_statistics(other)).entries == 0
    found = await cache.get_cached_predictions(shop, "k")
    assert found is not None
    assert found.value() == ["shop"]


async def test_old_tenant_row_is_stale(
    cache: PredictionCache, tenants: TenantStore, shop: Tenant
) -> None:
    await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    for work in (
        cache.cache_predictions(shop, "k", []),
        cache.get_cached_predictions(shop, "k"),
        cache.clear_cache(shop),
        cache.get_cache_statistics(shop),
    ):
        with pytest.raises(StaleTenant):
            await work
