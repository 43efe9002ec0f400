"""What trainings read: COPY's bytes as arrays, however they are cut."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from storage import training_data
from storage.database import Database
from storage.entities import EntityRow, EntityStore
from storage.exceptions import StaleTenant
from storage.interactions import InteractionRow, InteractionStore
from storage.tenants import Tenant, TenantStore
from storage.training_data import TrainingArrays, TrainingDataStore

BEGIN = datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC)
DIMENSION = 4

Event = tuple[str, str, float]
"""User, entity (type:id) and weight; one a minute."""


@pytest.fixture
async def tenant(database: Database, maintenance_database: Database) -> Tenant:
    return await TenantStore(database, maintenance_database).create("shop", dimension=DIMENSION)


async def ingest(database: Database, tenant: Tenant, events: Sequence[Event]) -> None:
    rows = [
        InteractionRow(
            interaction_id=f"i{n}",
            user_id=user,
            entity_type=entity.partition(":")[0],
            entity_id=entity.partition(":")[2],
            interaction_type="view",
            weight=weight,
            timestamp=BEGIN + timedelta(minutes=n),
            payload_hash=b"x",
        )
        for n, (user, entity, weight) in enumerate(events)
    ]
    for start in range(0, len(rows), 500):
        await InteractionStore(database).ingest(tenant, rows[start : start + 500])


def _stored(row: EntityRow, _present: EntityRow | None) -> EntityRow:
    return row


async def described(
    database: Database, tenant: Tenant, arrays: TrainingArrays
) -> set[tuple[str, str, float, int]]:
    """The rows in words: user, entity, weight, minutes since the begin."""
    keys = arrays.user_keys_of_rows.tolist()
    users = await TrainingDataStore(database).user_ids(tenant, keys)
    async with database.connection(tenant.tenant_id) as connection:
        found = await connection.fetch("SELECT entity_no, entity_type, entity_id FROM entities")
    names = {row["entity_no"]: f"{row['entity_type']}:{row['entity_id']}" for row in found}
    begin = int(BEGIN.timestamp())
    return {
        (users[key], names[no], weight, (time - begin) // 60)
        for key, no, weight, time in zip(
            keys,
            arrays.entity_nos.tolist(),
            arrays.weights.tolist(),
            arrays.times.tolist(),
            strict=True,
        )
    }


async def test_interactions_come_as_arrays(database: Database, tenant: Tenant) -> None:
    events = [
        ("ann", "item:a", 1.0),
        ("ann", "item:a", 0.5),
        ("ü 😀", "item:b", -2.0),
        ("bob", "video:a", 3.0),
    ]
    await ingest(database, tenant, events)
    arrays = await TrainingDataStore(database).read(tenant)
    assert [a.dtype for a in (arrays.user_keys_of_rows, arrays.entity_nos, arrays.times)] == [
        np.dtype(np.int64)
    ] * 3
    assert arrays.weights.dtype == np.float32
    assert arrays.vectors is None
    assert await described(database, tenant, arrays) == {
        (user, entity, weight, n) for n, (user, entity, weight) in enumerate(events)
    }


async def test_impressions_users_and_what_is_gone_are_left_out(
    database: Database, tenant: Tenant
) -> None:
    await ingest(
        database,
        tenant,
        [
            ("ann", "item:a", 1.0),
            ("ann", "item:seen", 0.0),
            ("ann", "user:bob", 1.0),
            ("ann", "item:gone", 1.0),
        ],
    )
    await EntityStore(database).delete(tenant, ("item", "gone"))
    arrays = await TrainingDataStore(database).read(tenant)
    assert await described(database, tenant, arrays) == {("ann", "item:a", 1.0, 0)}


async def test_hidden_entities_are_learnt_from(database: Database, tenant: Tenant) -> None:
    await ingest(database, tenant, [("ann", "item:a", 1.0)])

    def hide(row: EntityRow | None) -> EntityRow:
        assert row is not None
        return replace(row, hidden=True)

    await EntityStore(database).apply(tenant, {("item", "a"): hide})
    assert len(await TrainingDataStore(database).read(tenant)) == 1


async def test_tenant_without_anything_has_empty_arrays(database: Database, tenant: Tenant) -> None:
    arrays = await TrainingDataStore(database).read(tenant, vectors=True)
    assert len(arrays) == 0
    assert arrays.vectors is not None
    assert arrays.vectors[1].shape == (0, DIMENSION)


async def test_other_tenants_are_not_read(
    database: Database, maintenance_database: Database, tenant: Tenant
) -> None:
    other = await TenantStore(database, maintenance_database).create("other", dimension=4)
    await ingest(database, other, [("ann", "item:a", 1.0)])
    assert len(await TrainingDataStore(database).read(tenant)) == 0


@pytest.mark.parametrize("limit", [1, 3, 4, 5])
async def test_limit_keeps_the_latest(database: Database, tenant: Tenant, limit: int) -> None:
    await ingest(database, tenant, [(f"u{n}", "item:a", 1.0) for n in range(4)])
    arrays = await TrainingDataStore(database).read(tenant, limit=limit)
    minutes = {row[3] for row in await described(database, tenant, arrays)}
    assert minutes == set(range(4)[-limit:])


async def test_weight_beyond_float32_stays_finite(database: Database, tenant: Tenant) -> None:
    await ingest(database, tenant, [("ann", "item:a", 1e300), ("bob", "item:a", -1e300)])
    arrays = await TrainingDataStore(database).read(tenant)
    assert np.isfinite(arrays.weights).all()
    assert sorted(np.sign(arrays.weights).tolist()) == [-1.0, 1.0]


async def test_old_row_of_the_tenant_is_refused(database: Database, tenant: Tenant) -> None:
    with pytest.raises(StaleTenant):
        await TrainingDataStore(database).read(replace(tenant, version=tenant.version - 1))


async def test_blocks_of_any_size_give_the_same_rows(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [(f"u{n % 7}", f"item:{n % 11}", 1.0 + n) for n in range(1500)]
    await ingest(database, tenant, events)
    whole = await described(database, tenant, await TrainingDataStore(database).read(tenant))
    monkeypatch.setattr(training_data, "_BLOCK_BYTES", 1)
    parts = await described(database, tenant, await TrainingDataStore(database).read(tenant))
    assert len(whole) == len(events)
    assert parts == whole


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
async def test_stream_may_be_cut_anywhere(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "_BLOCK_BYTES", 1)
    row = training_data._ENTITY
    rows = np.zeros(20, row)
    rows["count"], rows["key_bytes"], rows["entity_bytes"] = 2, 8, 8
    rows["key"], rows["entity"] = np.arange(20) - 10, np.arange(20) << 40
    stream = bytes(19) + rows.tobytes() + b"\xff\xff"
    kept = {"key": np.dtype(np.int64), "entity": np.dtype(np.int64)}
    columns = training_data._Columns(row, kept)
    for start in range(0, len(stream), size):
        await columns.take(stream[start : start + size])
    assert columns.column("key").tolist() == list(range(-10, 10))
    assert columns.column("entity").tolist() == [n << 40 for n in range(20)]


async def test_vectors_come_with_their_entities(database: Database, tenant: Tenant) -> None:
    rng = np.random.default_rng(0)
    given = {f"v{n}": rng.standard_normal(DIMENSION).astype(np.float16) for n in range(5)}
    for kind, name in [("item", "none"), ("user", "v0"), *(("item", name) for name in given)]:
        row = EntityRow(kind, name, feature_vector=given.get(name))
        await EntityStore(database).apply(tenant, {(kind, name): partial(_stored, row)})
    arrays = await TrainingDataStore(database).read(tenant, vectors=True)
    assert arrays.vectors is not None
    numbers, vectors = arrays.vectors
    async with database.connection(tenant.tenant_id) as connection:
        found = await connection.fetch(
            "SELECT entity_no, entity_id FROM entities WHERE entity_type = 'item'"
        )
    names = {row["entity_no"]: row["entity_id"] for row in found}
    assert {names[no] for no in numbers.tolist()} == set(given)
    for no, vector in zip(numbers.tolist(), vectors, strict=True):
        np.testing.assert_array_equal(vector, given[names[no]])
