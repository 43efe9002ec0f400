"""Long work as a queue: who takes it, who ends it, and what is started by the clock."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from storage.database import Database
from storage.exceptions import NotFound, StaleTenant
from storage.models import ModelStore
from storage.operations import OperationStore
from storage.tenants import Tenant, TenantStore

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(database: Database, maintenance_database: Database) -> OperationStore:
    return OperationStore(database, maintenance_database)


@pytest.fixture
async def tenant(database: Database, maintenance_database: Database) -> Tenant:
    return await TenantStore(database, maintenance_database).create("shop", dimension=4)


@pytest.fixture
async def other(database: Database, maintenance_database: Database) -> Tenant:
    return await TenantStore(database, maintenance_database).create("other", dimension=4)


async def test_second_start_gets_the_first_ones_operation(
    store: OperationStore, tenant: Tenant
) -> None:
    first = await store.start(tenant, "train", "m", {"a": [1, "ü"]})
    again = await store.start(tenant, "train", "m", {"a": 2})
    others = [
        await store.start(tenant, "evaluate", "m", {}),
        await store.start(tenant, "train", "n", {}),
    ]
    assert again == first
    assert first.request == {"a": [1, "ü"]}
    assert (first.state, first.done, first.share) == ("pending", False, 0.0)
    assert len({first.operation_id, *(o.operation_id for o in others)}) == 3


async def test_starts_at_once_are_one_operation(store: OperationStore, tenant: Tenant) -> None:
    found = await asyncio.gather(*(store.start(tenant, "train", "m", {}) for _ in range(20)))
    assert len({operation.operation_id for operation in found}) == 1


async def test_start_after_the_end_is_a_new_operation(
    store: OperationStore, tenant: Tenant
) -> None:
    first = await store.start(tenant, "train", "m", {})
    await store.request_cancel(tenant, first.operation_id)
    assert (await store.start(tenant, "train", "m", {})).operation_id != first.operation_id


async def test_start_with_an_old_row_of_the_tenant_is_refused(
    store: OperationStore, tenant: Tenant
) -> None:
    with pytest.raises(StaleTenant):
        await store.start(replace(tenant, version=tenant.version - 1), "train", "m", {})


async def test_operations_are_their_tenants_only(
    store: OperationStore, tenant: Tenant, other: Tenant
) -> None:
    operation = await store.start(tenant, "train", "m", {})
    for wanted in (operation.operation_id, "no-uuid", ""):
        with pytest.raises(NotFound) as raised:
            await store.get(other, wanted)
        assert raised.value.reason == "OPERATION_NOT_FOUND"
    with pytest.raises(NotFound):
        await store.request_cancel(other, operation.operation_id)
    assert await store.page(other, None, 10) == []
    assert await store.get(tenant, operation.operation_id) == operation


async def test_pages_are_newest_first_and_of_one_kind(
    store: OperationStore, tenant: Tenant
) -> None:
    made = [await store.start(tenant, "train", f"m{n}", {}) for n in range(3)]
    made.append(await store.start(tenant, "evaluate", "m0", {}))
    assert await store.page(tenant, None, 10) == made[::-1]
    assert await store.page(tenant, made[2].operation_id, 1) == [made[1]]
    assert await store.page(tenant, None, 10, kind="evaluate") == [made[3]]


async def test_claims_take_the_oldest_and_one_a_tenant(
    store: OperationStore, tenant: Tenant, other: Tenant
) -> None:
    first = await store.start(tenant, "train", "m", {})
    second = await store.start(tenant, "train", "n", {})
    third = await store.start(other, "train", "m", {})
    claimed = [await store.claim(f"w{n}", 60) for n in range(3)]
    assert [c and c.operation_id for c in claimed] == [first.operation_id, third.operation_id, None]
    assert claimed[0] is not None
    assert (claimed[0].state, claimed[0].worker) == ("running", "w0")
    assert claimed[0].started_at is not None
    assert await store.finish(first.operation_id, "w0", "succeeded", response={"version": "1"})
    after = await store.claim("w3", 60)
    assert after is not None
    assert after.operation_id == second.operation_id
    done = await store.get(tenant, first.operation_id)
    assert (done.state, done.share, done.response) == ("succeeded", 1.0, {"version": "1"})


async def test_claims_at_once_never_run_two_of_a_tenant(
    store: OperationStore, tenant: Tenant, other: Tenant
) -> None:
    for n in range(6):
        await store.start(tenant, "train", f"m{n}", {})
        await store.start(other, "train", f"m{n}", {})
    claimed = await asyncio.gather(*(store.claim(f"w{n}", 60) for n in range(8)))
    tenants = [operation.tenant_id for operation in claimed if operation is not None]
    assert len(tenants) == len(set(tenants))
    assert tenants


async def test_report_says_when_to_stop(store: OperationStore, tenant: Tenant) -> None:
    started = await store.start(tenant, "train", "m", {})
    held = started.operation_id
    await store.claim("w", 60)
    assert await store.report(held, "w", "fitting", 0.25, 60)
    told = await store.get(tenant, held)
    assert (told.phase, told.share) == ("fitting", 0.25)
    assert not await store.report(held, "someone else", "fitting", 0.5, 60)
    asked = await store.request_cancel(tenant, held)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    assert not await store.report(held, "w", "fitting", 0.5, 60)
    assert await store.finish(held, "w", "cancelled", error_code=1, error_message="x")
    assert not await store.finish(held, "w", "succeeded")
    assert (await store.get(tenant, held)).state == "cancelled"


async def test_cancelled_before_its_begin_is_never_claimed(
    store: OperationStore, tenant: Tenant
) -> None:
    started = await store.start(tenant, "train", "m", {})
    ended = await store.request_cancel(tenant, started.operation_id)
    assert (ended.state, ended.error_code, ended.done) == ("cancelled", 1, True)
    assert ended.finished_at is not None
    assert await store.claim("w", 60) is None
    assert await store.request_cancel(tenant, started.operation_id) == ended


async def test_lease_that_is_over_fails_the_operation(
    store: OperationStore, tenant: Tenant, maintenance_database: Database
) -> None:
    started = await store.start(tenant, "train", "m", {})

    async def let_it_end() -> None:
        async with maintenance_database.connection(None) as connection:
            await connection.execute("UPDATE operations SET lease_until = now() - interval '1 s'")

    await store.claim("w", 60)
    assert await store.fail_abandoned() == []
    await let_it_end()
    assert await store.extend(started.operation_id, "w", 60)
    assert await store.fail_abandoned() == []
    await let_it_end()
    (lost,) = await store.fail_abandoned()
    assert (lost.operation_id, lost.state, lost.error_reason) == (
        started.operation_id,
        "failed",
        "TRAINER_DIED",
    )
    assert not await store.extend(started.operation_id, "w", 60)
    assert await store.fail_abandoned() == []


async def test_released_operation_is_claimed_again(store: OperationStore, tenant: Tenant) -> None:
    started = await store.start(tenant, "train", "m", {})
    await store.claim("w", 60)
    await store.report(started.operation_id, "w", "fitting", 0.5, 60)
    assert await store.release(started.operation_id, "w")
    assert await store.get(tenant, started.operation_id) == started
    again = await store.claim("v", 60)
    assert again is not None
    assert not await store.release(started.operation_id, "w")
    await store.request_cancel(tenant, started.operation_id)
    assert await store.release(started.operation_id, "v")
    assert (await store.get(tenant, started.operation_id)).state == "cancelled"


async def test_due_models_are_started_once_and_moved_on(
    store: OperationStore, tenant: Tenant, database: Database
) -> None:
    models = ModelStore(database)
    for name, at in (("due", NOW), ("later", NOW + timedelta(hours=1)), ("gone", NOW)):
        await models.create(
            tenant, name, algorithm="item_knn", schedule="0 * * * *", next_run_at=at
        )
    await models.delete(tenant, "gone")

    def tomorrow(schedule: str, after: datetime) -> datetime:
        assert schedule == "0 * * * *"
        return after + timedelta(days=1)

    counts = await asyncio.gather(*(store.start_due(NOW, tomorrow) for _ in range(5)))
    assert sum(counts) == 1
    (operation,) = await store.page(tenant, None, 10)
    assert (operation.kind, operation.target) == ("train", "due")
    assert operation.request == {"scheduled": True}
    assert (await models.get(tenant, "due")).next_run_at == NOW + timedelta(days=1)
    assert (await models.get(tenant, "later")).next_run_at == NOW + timedelta(hours=1)


async def test_due_model_whose_training_still_runs_is_only_moved_on(
    store: OperationStore, tenant: Tenant, database: Database
) -> None:
    models = ModelStore(database)
    await models.create(tenant, "m", algorithm="item_knn", schedule="x", next_run_at=NOW)
    first = await store.start(tenant, "train", "m", {})
    assert await store.start_due(NOW, lambda _schedule, _after: None) == 1
    assert await store.page(tenant, None, 10) == [first]
    assert (await models.get(tenant, "m")).next_run_at is None


async def test_ids_grow_with_time_and_are_version_7(store: OperationStore, tenant: Tenant) -> None:
    made = [(await store.start(tenant, "train", f"n{n}", {})).operation_id for n in range(50)]
    assert made == sorted(made)
    assert {uuid.UUID(name).version for name in made} == {7}
