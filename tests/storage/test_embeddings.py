"""Embeddings: exact, all or none, one dimension a set."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from storage.database import Database
from storage.embeddings import EmbeddingStore, NewEmbedding, _vector
from storage.exceptions import InvalidArgument, StaleTenant
from storage.tenants import Tenant, TenantSettings, TenantStore


@pytest.fixture
def store(database: Database) -> EmbeddingStore:
    return EmbeddingStore(database)


def new(entity_id: str, values: object = (1.0, 2.0), version: str = "1", kind: str = "item"):
    return NewEmbedding(kind, entity_id, values, version)


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False)))
def test_vector_is_stored_bit_for_bit_or_refused(values: np.ndarray) -> None:
    if np.isfinite(values).all():
        assert _vector(values, "e").tobytes() == values.astype("<f4").tobytes()
    else:
        with pytest.raises(InvalidArgument):
            _vector(values, "e")


async def test_saved_embedding_is_read_back_exactly(store: EmbeddingStore, shop: Tenant) -> None:
    values = np.random.default_rng(1).standard_normal(300).astype(np.float32)
    await store.save_embeddings(shop, "user", "ada", values)
    row = await store.get_embeddings(shop, "user", "ada")
    assert row is not None
    assert (row.entity_type, row.entity_id, row.version) == ("user", "ada", "1")
    assert row.values.dtype == np.float32
    assert row.values.tobytes() == values.tobytes()
    assert await store.get_embeddings(shop, "user", "ben") is None
    assert await store.get_embeddings(shop, "user", "ada", "2") is None


async def test_embedding_is_replaced_and_latest_is_the_one_written_last(
    store: EmbeddingStore, shop: Tenant
) -> None:
    await store.save_embeddings(shop, "item", "a", [1, 2])
    await store.save_embeddings(shop, "item", "a", [1, 2, 3], "0")
    latest = await store.get_embeddings(shop, "item", "a")
    assert latest is not None
    assert (latest.version, latest.values.tolist()) == ("0", [1, 2, 3])
    await store.save_embeddings(shop, "item", "a", [5, 6])
    again = await store.get_embeddings(shop, "item", "a")
    assert again is not None
    assert (again.version, again.values.tolist()) == ("1", [5, 6])
    assert again.updated_at > again.created_at


@pytest.mark.parametrize(
    ("embedding", "field"),
    [
        (new(""), "embeddings[1].entity.id"),
        (new("x" * 256), "embeddings[1].entity.id"),
        (new("b", kind=""), "embeddings[1].entity.type"),
        (new("b", version="v" * 51), "embeddings[1].version"),
        (new("b", version=""), "embeddings[1].version"),
        (new("b", version="latest"), "embeddings[1].version"),
        (new("b", []), "embeddings[1].values"),
        (new("b", [[1.0, 2.0]]), "embeddings[1].values"),
        (new("b", [0.0] * 16_001), "embeddings[1].values"),
        (new("b", [1.0, float("nan")]), "embeddings[1].values"),
        (new("b", [1.0, 1e39]), "embeddings[1].values"),
        (new("b", ["a", "b"]), "embeddings[1].values"),
        (new("b", [1.0]), "embeddings[1].values"),
        (new("a"), "embeddings[1].entity"),
    ],
    ids=[
        "no id",
        "long id",
        "no type",
        "long version",
        "no version",
        "latest",
        "empty",
        "matrix",
        "too long",
        "nan",
        "overflow",
        "words",
        "other dimension",
        "twice",
    ],
)
async def test_batch_with_one_bad_embedding_names_it_and_stores_none(
    store: EmbeddingStore, shop: Tenant, embedding: NewEmbedding, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await store.batch_save_embeddings(shop, [new("a"), embedding])
    assert [v.field for v in caught.value.violations] == [field]
    assert await store.get_embeddings_stats(shop) == []


async def test_other_dimension_than_the_sets_is_refused_naming_both(
    store: EmbeddingStore, shop: Tenant
) -> None:
    await store.batch_save_embeddings(shop, [new("a"), new("a", [1, 2, 3], "2")])
    batch = [new("b"), new("c", [1, 2], "2"), new("d", [1], "3")]
    with pytest.raises(InvalidArgument, match=r"has 2 numbers.*has 3") as caught:
        await store.batch_save_embeddings(shop, batch)
    assert caught.value.reason == "DIMENSION_MISMATCH"
    assert [v.field for v in caught.value.violations] == ["embeddings[1].values"]
    stats = await store.get_embeddings_stats(shop)
    assert [(s.version, s.dimension, s.embedding_count) for s in stats] == [
        ("1", 2, 1),
        ("2", 3, 1),
    ]


async def test_first_writers_of_a_set_agree_on_its_dimension(
    store: EmbeddingStore, shop: Tenant
) -> None:
    outcomes = await asyncio.gather(
        *(store.batch_save_embeddings(shop, [new(f"e{n}", [0.5] * (2 + n % 2))]) for n in range(8)),
        return_exceptions=True,
    )
    refused = [o for o in outcomes if isinstance(o, InvalidArgument)]
    assert {e.reason for e in refused} == {"DIMENSION_MISMATCH"}
    (stats,) = await store.get_embeddings_stats(shop)
    assert stats.embedding_count == 8 - len(refused) == 4


async def test_overlapping_batches_at_once_end_without_deadlock(
    store: EmbeddingStore, shop: Tenant
) -> None:
    batch = [new(str(n), [n, n], version) for n in range(50) for version in ("1", "2")]
    saved = await asyncio.gather(
        *(store.batch_save_embeddings(shop, batch[::step]) for step in (1, -1, 1, -1))
    )
    assert saved == [100] * 4


async def test_empty_batch_saves_nothing(store: EmbeddingStore, shop: Tenant) -> None:
    assert await store.batch_save_embeddings(shop, []) == 0


async def test_set_is_paged_in_byte_order(store: EmbeddingStore, shop: Tenant) -> None:
    ids = ["b", "B", "a", "é", "aa"]
    await store.batch_save_embeddings(shop, [new(i) for i in ids])
    await store.save_embeddings(shop, "item", "zz", [1, 2, 3], "2")
    seen: list[str] = []
    while page := await store.get_all_embeddings(
        shop, "item", "1", after=seen[-1] if seen else "", limit=2
    ):
        seen += [row.entity_id for row in page]
    assert seen == ["B", "a", "aa", "b", "é"]
    assert [row.entity_id for row in await store.get_all_embeddings(shop, "item")] == ["zz"]
    assert await store.get_all_embeddings(shop, "user") == []


async def test_stats_count_each_set(store: EmbeddingStore, shop: Tenant) -> None:
    await store.batch_save_embeddings(
        shop, [new("a"), new("b"), new("a", [1], "2"), new("u", [1, 2, 3], kind="user")]
    )
    stats = await store.get_embeddings_stats(shop)
    assert [
        (s.entity_type, s.version, s.dimension, s.embedding_count, s.size_bytes) for s in stats
    ] == [("item", "1", 2, 2, 16), ("item", "2", 1, 1, 4), ("user", "1", 3, 1, 12)]


async def test_set_is_removed_and_may_have_another_dimension_then(
    store: EmbeddingStore, shop: Tenant
) -> None:
    await store.batch_save_embeddings(shop, [new("a"), new("b"), new("a", version="2")])
    assert await store.remove_version(shop, "item", "1") == 2
    assert await store.remove_version(shop, "item", "1") == 0
    await store.save_embeddings(shop, "item", "a", [1, 2, 3])
    assert len(await store.get_embeddings_stats(shop)) == 2


async def test_old_embeddings_are_removed_of_one_type_or_all(
    store: EmbeddingStore, shop: Tenant, maintenance_database: Database
) -> None:
    await store.batch_save_embeddings(
        shop, [new("old"), new("new"), new("old", kind="user"), new("new", kind="user")]
    )
    async with maintenance_database.connection(None) as connection:
        await connection.execute(
            "UPDATE embeddings SET updated_at = now() - interval '2 days' WHERE entity_id = 'old'"
        )
    border = datetime.now(UTC) - timedelta(days=1)
    assert await store.remove_older(shop, border, "user") == 1
    assert await store.remove_older(shop, border) == 1
    stats = await store.get_embeddings_stats(shop)
    assert [s.embedding_count for s in stats] == [1, 1]


async def test_tenants_never_see_each_others_embeddings(
    store: EmbeddingStore, tenants: TenantStore, shop: Tenant
) -> None:
    other = await tenants.create("other")
    await store.save_embeddings(shop, "item", "a", [1, 2])
    assert await store.get_embeddings(other, "item", "a") is None
    assert await store.get_all_embeddings(other, "item") == []
    assert await store.get_embeddings_stats(other) == []
    await store.save_embeddings(other, "item", "a", [1, 2, 3])
    assert await store.remove_version(other, "item", "1") == 1
    assert await store.remove_older(other, datetime.now(UTC)) == 0
    assert len(await store.get_all_embeddings(shop, "item")) == 1


async def test_old_tenant_row_is_stale(
    store: EmbeddingStore, tenants: TenantStore, shop: Tenant
) -> None:
    await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    for work in (
        store.save_embeddings(shop, "item", "a", [1]),
        store.get_embeddings(shop, "item", "a"),
        store.get_all_embeddings(shop, "item"),
        store.get_embeddings_stats(shop),
        store.remove_version(shop, "item", "1"),
        store.remove_older(shop, datetime.now(UTC)),
    ):
        with pytest.raises(StaleTenant):
            await work
