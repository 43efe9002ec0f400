"""Operations and the processes that carry them out: claims, deaths, stops and schedules."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.context import JobContext
from jobs.main import run
from jobs.operations import OperationRunner
from jobs.trainer_processes import TrainerCommand, how_it_ended
from storage.database import Database
from storage.models import ModelStore
from storage.operations import Operation, OperationStore
from storage.tenants import Tenant
from tests.jobs.conftest import Settings, Shop
from tests.waiting import until

ENDS = "import sys; sys.stdin.readline(); sys.exit(3)"
SLEEPS = "import sys, time; sys.stdin.readline(); time.sleep(60)"
NOTES = """
import json, os, sys, time
order = json.loads(sys.stdin.readline())
with open(order["settings"], "a") as file:
    file.write(f"begin {order['operation_id']}\\n")
    file.flush()
    time.sleep(0.3)
    file.write(f"end {order['operation_id']}\\n")
"""
"""Programs in place of the trainer's: processes as real as it, and sooner there."""


def command(program: str, settings: str = "") -> TrainerCommand:
    return TrainerCommand((sys.executable, "-S", "-c", program), settings, 1)


@pytest.fixture
def store(context: JobContext) -> OperationStore:
    return OperationStore(context.service, context.maintenance)


@asynccontextmanager
async def running(
    store: OperationStore, settings: Settings, program: TrainerCommand, lease_secs: float = 30.0
) -> AsyncIterator[OperationRunner]:
    runner = OperationRunner(store, settings, program, lease_secs=lease_secs)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def became(
    store: OperationStore,
    tenant: Tenant,
    operation: Operation,
    condition: Callable[[Operation], bool] = lambda found: found.done,
) -> Operation:
    async def so() -> Operation | None:
        found = await store.get(tenant, operation.operation_id)
        return found if condition(found) else None

    found = await until(so)
    assert found is not None
    return found


def children() -> list[int]:
    """Processes that run one of the programs above for this process."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    found = []
    for pid in text.split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if b"sys.stdin" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


async def child() -> int:
    return (await until(children))[0]


async def test_trainer_that_ends_too_early_fails_its_operation(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    async with running(store, settings, command(ENDS)):
        ended = await became(store, shop.tenant, started)
    assert (ended.state, ended.error_reason) == ("failed", "TRAINER_DIED")
    assert ended.error_message == "The trainer ended with exit code 3 before its work was done."


async def test_killed_trainer_fails_its_operation_at_once(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    async with running(store, settings, command(SLEEPS), lease_secs=240):
        os.kill(await child(), signal.SIGKILL)
        async with asyncio.timeout(20):
            ended = await became(store, shop.tenant, started)
    assert (ended.state, ended.error_reason) == ("failed", "TRAINER_DIED")
    assert "signal 9 (SIGKILL)" in (ended.error_message or "")


async def test_program_that_does_not_start_fails_its_operation(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    missing = TrainerCommand(("/nowhere/python",), "", 1)
    async with running(store, settings, missing):
        ended = await became(store, shop.tenant, started)
    assert (ended.state, ended.error_reason) == ("failed", "TRAINER_DIED")
    assert "cannot be started" in (ended.error_message or "")


async def test_lease_is_extended_while_the_trainer_lives(
    store: OperationStore, settings: Settings, shop: Shop, context: JobContext
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    leases = "SELECT lease_until FROM operations WHERE operation_id = $1::text::uuid"
    async with running(store, settings, command(SLEEPS), lease_secs=12):
        await became(store, shop.tenant, started, lambda found: found.state == "running")
        async with context.maintenance.connection(None) as connection:

            async def lease() -> datetime:
                ends: datetime = await connection.fetchval(leases, started.operation_id)
                return ends

            first = await lease()

            async def extended() -> bool:
                return await lease() > first

            await until(extended)
        assert (await store.get(shop.tenant, started.operation_id)).state == "running"


async def test_operation_that_is_gone_ends_its_trainer(
    store: OperationStore,
    settings: Settings,
    shop: Shop,
    context: JobContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.operations._LAST_WORD_SECS", 0.2)
    await store.start(shop.tenant, "train", "m", {})
    async with running(store, settings, command(SLEEPS), lease_secs=4):
        await child()
        async with context.maintenance.connection(None) as connection:
            await connection.execute("DELETE FROM operations")
        await until(lambda: not children())


async def test_stop_gives_the_operation_back_and_ends_the_trainer(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    async with running(store, settings, command(SLEEPS)):
        await child()
        await became(store, shop.tenant, started, lambda found: found.state == "running")
    assert children() == []
    assert await store.get(shop.tenant, started.operation_id) == started


async def test_two_processes_share_the_work_and_no_tenant_has_two_at_once(
    store: OperationStore, settings: Settings, shop: Shop, context: JobContext, tmp_path: Path
) -> None:
    other = await context.tenants.create("other", dimension=4)
    started = [
        (tenant, await store.start(tenant, "train", f"m{n}", {}))
        for n in range(3)
        for tenant in (shop.tenant, other)
    ]
    log = tmp_path / "log"
    both = replace(settings, training_concurrency=2)
    program = command(NOTES, str(log))
    async with running(store, both, program), running(store, both, program):
        for tenant, operation in started:
            await became(store, tenant, operation)
    owners = {operation.operation_id: tenant.tenant_id for tenant, operation in started}
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(of for word, of in lines if word == "begin") == sorted(owners)
    busy: set[str] = set()
    for word, of in lines:
        assert (owners[of] in busy) == (word == "end")
        busy ^= {owners[of]}


async def test_schedule_runs_once_a_tick_with_two_processes(
    store: OperationStore, settings: Settings, shop: Shop, context: JobContext, database: Database
) -> None:
    models = ModelStore(database)
    due = datetime.now(UTC) - timedelta(days=3)
    await models.create(
        shop.tenant, "m", algorithm="item_knn", schedule="0 3 * * *", next_run_at=due
    )
    async with running(store, settings, command(ENDS)), running(store, settings, command(ENDS)):
        found = await until(lambda: store.page(shop.tenant, None, 10))
        await became(store, shop.tenant, found[0])
        await asyncio.sleep(0.3)
    assert [o.request for o in await store.page(shop.tenant, None, 10)] == [{"scheduled": True}]
    moved = (await models.get(shop.tenant, "m")).next_run_at
    assert moved is not None
    assert datetime.now(UTC) < moved <= datetime.now(UTC) + timedelta(days=1)


async def test_abandoned_operation_is_failed_by_any_process(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    await store.claim("a process that was killed", 0.1)
    async with running(store, settings, command(ENDS)):
        ended = await became(store, shop.tenant, started)
    assert (ended.state, ended.error_reason) == ("failed", "TRAINER_DIED")


async def test_idle_process_keeps_one_trainer_ready_and_ends_it(
    store: OperationStore, settings: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.operations._SPARE_AFTER_SECS", 0.1)
    async with running(store, settings, command(ENDS)):
        spare = await child()
        started = await store.start(shop.tenant, "train", "m", {})
        await became(store, shop.tenant, started)
        assert spare not in children()
        assert await child() != spare
    assert children() == []


async def test_jobs_run_operations_whether_or_not_they_lead(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(run(settings, stop)),
        asyncio.create_task(run(settings, stop, command(ENDS))),
    ]
    started = await store.start(shop.tenant, "train", "m", {})
    ended = await became(store, shop.tenant, started)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert ended.error_reason == "TRAINER_DIED"


def test_exit_codes_in_words() -> None:
    assert "signal 15 (SIGTERM)." in how_it_ended(-15)
    assert "signal 250." in how_it_ended(-250)
    assert "exit code 0 " in how_it_ended(0)
