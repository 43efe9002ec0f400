"""The jobs process: of all that run, one leads and does the periodic work; all run operations."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from jobs.context import JobContext, JobSettings, job_context
from jobs.operations import run_operations
from jobs.registry import AT_START, JOBS, Job
from jobs.trainer_processes import TrainerCommand
from storage.ending import end
from storage.exceptions import PenchantError
from storage.leadership import leadership

_CHECK_SECS = 1.0
_PAUSE_SECS = 2.0
_CLEAN_UP_SECS = 30.0

_log = structlog.get_logger(__name__)


async def run(
    settings: JobSettings,
    stop: asyncio.Event | None = None,
    trainer: TrainerCommand | None = None,
) -> None:
    """Runs the jobs and operations until told to stop; loss of PostgreSQL only interrupts it.

    Args:
        settings: where PostgreSQL is, and the intervals.
        stop: ends the run when set; SIGTERM and SIGINT when None.
        trainer: how operations are run; None: they are left to other processes.
    """
    # It tells of every run, and of those left out because the one before still goes on.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    ended = stop if stop is not None else _stop_on_signals()
    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_up(partial(_lead, settings), ended))
        if trainer is not None:
            group.create_task(_keep_up(partial(run_operations, settings, trainer), ended))


async def _keep_up(work: Callable[[], Coroutine[Any, Any, None]], ended: asyncio.Event) -> None:
    """Does endless work until the event; again after a pause when PostgreSQL interrupts it."""
    while not ended.is_set():
        task = asyncio.create_task(work())
        waiting = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(task, waiting, again_secs=_CLEAN_UP_SECS)
        try:
            task.result()
        except asyncio.CancelledError:
            if not ended.is_set():
                raise
        except PenchantError as error:
            _log.warning("jobs interrupted", error=error.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _PAUSE_SECS)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _lead(settings: JobSettings) -> None:
    """Waits for its turn and works until the leadership is lost or the task is cancelled."""
    async with job_context(settings) as context, leadership(context.owner) as leader:
        _log.info("jobs lead")
        async with _scheduled(context):
            while True:
                await leader.check()
                await asyncio.sleep(_CHECK_SECS)


@asynccontextmanager
async def _scheduled(context: JobContext) -> AsyncIterator[None]:
    """Runs one job once, the others in their intervals; cancels and awaits them in the end."""
    running: set[asyncio.Task[None]] = set()
    scheduler = AsyncIOScheduler(timezone=UTC)

    async def tick(job: Job) -> None:
        task = asyncio.create_task(_guarded(job, context))
        running.add(task)
        try:
            # Unlike awaiting it, this ends quietly when the task is cancelled below.
            await asyncio.wait((task,))
        finally:
            running.discard(task)

    scheduler.add_job(tick, args=[AT_START], id=AT_START.name, misfire_grace_time=None)
    for job in JOBS:
        seconds = float(getattr(context.settings, job.interval))
        scheduler.add_job(
            tick,
            "interval",
            args=[job],
            id=job.name,
            seconds=seconds,
            jitter=seconds / 10,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
    scheduler.start()
    try:
        yield
    finally:
        scheduler.pause()
        await end(*running, again_secs=_CLEAN_UP_SECS)
        await asyncio.sleep(0)
        scheduler.shutdown(wait=False)


async def _guarded(job: Job, context: JobContext) -> None:
    try:
        await job.run(context)
    except PenchantError as error:
        _log.warning("job failed", job=job.name, error=error.message)
    except Exception:  # noqa: BLE001 - the other jobs and its own next run must go on
        _log.exception("job failed", job=job.name)
