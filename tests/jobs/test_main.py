"""The jobs process: who leads, what a loss of PostgreSQL does, how it ends."""

import asyncio
import functools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import jobs.main
from jobs.context import JobContext, job_context
from jobs.main import run
from jobs.registry import Job
from storage.exceptions import Unavailable
from storage.leadership import leadership
from tests.jobs.conftest import Settings
from tests.waiting import until


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[JobContext]:
    """The contexts that the one job of these tests was run with."""
    seen: list[JobContext] = []

    async def note(context: JobContext) -> None:
        seen.append(context)

    monkeypatch.setattr(jobs.main, "JOBS", (Job("note", "trending_interval_secs", note),))
    return seen


async def test_of_two_processes_one_works_and_the_other_follows(
    settings: Settings, runs: list[JobContext]
) -> None:
    async with _running(settings) as stop_first:
        await until(lambda: len(runs) >= 2)
        first = runs[0]
        async with _running(settings):
            await asyncio.sleep(1)
            assert {id(context) for context in runs} == {id(first)}
            stop_first.set()
            await until(lambda: runs[-1] is not first)


async def test_lost_connection_ends_the_leadership_and_it_is_won_again(
    settings: Settings, runs: list[JobContext]
) -> None:
    async with _running(settings):
        await until(lambda: len(runs) >= 1)
        first = runs[0]
        async with job_context(settings) as other, other.owner.connection(None) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE locktype = 'advisory' AND classid = 1346719313"
            )
        await until(lambda: runs[-1] is not first)


async def test_failing_job_is_run_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    async def fail(_: JobContext) -> None:
        tries.append(1)
        raise RuntimeError("as planned")

    monkeypatch.setattr(jobs.main, "JOBS", (Job("fail", "trending_interval_secs", fail),))
    async with _running(settings):
        await until(lambda: len(tries) >= 3)


async def test_stop_cancels_a_job_under_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[str] = []

    async def sleep(_: JobContext) -> None:
        ends.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    monkeypatch.setattr(jobs.main, "JOBS", (Job("sleep", "trending_interval_secs", sleep),))
    async with _running(settings):
        await until(lambda: ends == ["began"])
    assert ends == ["began", "cancelled"]


async def test_sigterm_ends_the_run(settings: Settings, runs: list[JobContext]) -> None:
    task = asyncio.create_task(run(settings))
    await until(lambda: len(runs) >= 1)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 10)


async def test_shipped_jobs_run_side_by_side(settings: Settings) -> None:
    async with job_context(settings) as context, _running(settings):
        await context.tenants.create("shop", dimension=4)
        for name in ("trending", "neighbours"):
            await until(functools.partial(context.trends.finished_at, name))


async def test_leader_that_lost_its_lock_notices(context: JobContext) -> None:
    async with leadership(context.owner) as leader:
        await leader.check()
        async with context.owner.connection(None) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE locktype = 'advisory' AND classid = 1346719313"
            )
        with pytest.raises(Unavailable):
            await leader.check()
