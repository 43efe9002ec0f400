"""Long work, taken from the queue by every jobs process, each in a trainer process of its own.

Any number of jobs processes may do this side by side, leading or not: a claim is one statement, and
the database lets no tenant have two operations running. A jobs process that stops gives back
what it holds, to be begun anew by the next; one that is killed takes its trainers with it, and
what it held fails when its lease is over.
"""

import asyncio
import contextlib
import os
import socket
import time
from datetime import UTC, datetime
from itertools import count

import structlog
from prometheus_client import Counter, Histogram

from engine.schedules import next_run
from jobs.context import JobSettings
from jobs.trainer_processes import Order, TrainerCommand, TrainerProcess, how_it_ended
from storage.database import MAINTENANCE_ROLE, Database
from storage.ending import end
from storage.exceptions import PenchantError
from storage.operations import ABORTED_CODE, Operation, OperationStore
from storage.retry import retry_transient

OPERATIONS = Counter(
    "penchant_operations_total",
    "Trainings and evaluations whose process ended by itself or was lost.",
    ["kind", "outcome"],
)
SECONDS = Histogram(
    "penchant_operation_seconds",
    "How long the processes of trainings and evaluations took.",
    ["kind"],
    buckets=(1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0),
)

LEASE_SECS = 30.0
TRAINER_DIED = "TRAINER_DIED"

_CONNECTIONS = 2
_LAST_WORD_SECS = 5.0
_PAUSE_SECS = 1.0
_SPARE_AFTER_SECS = 5.0
_CLEAN_UP_SECS = 30.0
"""An idle process this long keeps a trainer ready, which saves an operation its start."""

_log = structlog.get_logger(__name__)
_numbers = count(1)


async def run_operations(settings: JobSettings, command: TrainerCommand) -> None:
    """Runs operations until cancelled.

    Raises:
        Unavailable: PostgreSQL is or went away.
    """
    config = settings.database.model_copy(
        update={"max_connections": _CONNECTIONS, "min_connections": 0}
    )
    async with Database(config, role=MAINTENANCE_ROLE) as maintenance:
        # Nothing here is on behalf of one tenant.
        store = OperationStore(maintenance, maintenance)
        await OperationRunner(store, settings, command).run()


class OperationRunner:
    """One process's share of the operations.

    Args:
        lease_secs: after which work of a process that is gone fails.
    """

    def __init__(
        self,
        store: OperationStore,
        settings: JobSettings,
        command: TrainerCommand,
        *,
        lease_secs: float = LEASE_SECS,
    ) -> None:
        self._store = store
        self._settings = settings
        self._command = command
        self._lease_secs = lease_secs
        self._running: set[asyncio.Task[None]] = set()
        self._spare: TrainerProcess | None = None
        self._idle_since = time.monotonic()

    async def run(self) -> None:
        """Looks for work again and again; in the end, what runs is given back."""
        try:
            while True:
                pause = self._settings.operation_poll_secs
                try:
                    await self.tick()
                except PenchantError as error:
                    # What runs goes on: a loss of PostgreSQL shorter than the lease costs nothing.
                    _log.warning("operations not looked at", error=error.message)
                    pause = max(pause, _PAUSE_SECS)
                await asyncio.sleep(pause)
        finally:
            await end(*self._running, again_secs=_CLEAN_UP_SECS)
            if self._spare is not None:
                await self._spare.end()

    async def tick(self) -> None:
        """Fails what was abandoned, starts what is due and claims what there is room for."""
        for lost in await self._store.fail_abandoned():
            _log.warning("operation abandoned", **_facts(lost), worker=lost.worker)
        await self._store.start_due(datetime.now(UTC), next_run_or_never)
        while len(self._running) < self._settings.training_concurrency:
            worker = f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
            operation = await self._store.claim(worker, self._lease_secs)
            if operation is None:
                break
            task = asyncio.create_task(self._carry_out(operation))
            self._running.add(task)
            task.add_done_callback(self._ended)
        await self._keep_spare()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._idle_since = time.monotonic()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("operation lost", exc_info=error)

    async def _keep_spare(self) -> None:
        if self._running or time.monotonic() - self._idle_since < _SPARE_AFTER_SECS:
            return
        if self._spare is None or not self._spare.alive:
            self._idle_since = time.monotonic()  # one that dies at once is not followed at once
            with contextlib.suppress(OSError):
                self._spare = await TrainerProcess.start(self._command)

    async def _carry_out(self, operation: Operation) -> None:
        """One operation, from the claim to its end."""
        process, self._spare = self._spare, None
        began = time.monotonic()
        try:
            if process is None or not process.alive:
                process = await TrainerProcess.start(self._command)
            _log.info("operation begins", **_facts(operation), trainer=process.pid)
            await process.send(
                Order(
                    self._command.settings,
                    operation.operation_id,
                    operation.worker,
                    self._lease_secs,
                    os.getpid(),
                )
            )
            code = await self._watch(process, operation)
        except asyncio.CancelledError:
            if process is not None:
                await process.end()
            await self._give_back(operation)
            raise
        except OSError as error:
            await self._bury(operation, f"The trainer cannot be started: {error}.")
            return
        SECONDS.labels(operation.kind).observe(time.monotonic() - began)
        await self._bury(operation, how_it_ended(code))

    async def _watch(self, process: TrainerProcess, operation: Operation) -> int:
        """Keeps the operation held until the process ends; returns the exit code."""
        while True:
            code = await process.wait(self._lease_secs / 4)
            if code is not None:
                return code
            try:
                held = await self._store.extend(
                    operation.operation_id, operation.worker, self._lease_secs
                )
            except PenchantError as error:
                _log.warning("lease not extended", **_facts(operation), error=error.message)
                continue
            if not held:
                # It has just finished, or lost what it works on: it need not go on for long.
                code = await process.wait(_LAST_WORD_SECS)
                if code is None:
                    await process.end()

    async def _bury(self, operation: Operation, message: str) -> None:
        """Fails the operation unless its trainer has ended it."""

        async def fail() -> bool:
            return await self._store.finish(
                operation.operation_id,
                operation.worker,
                "failed",
                error_code=ABORTED_CODE,
                error_reason=TRAINER_DIED,
                error_message=message,
            )

        try:
            if await retry_transient(fail, deadline_secs=self._lease_secs, attempts=100):
                OPERATIONS.labels(operation.kind, "died").inc()
                _log.error("trainer died", **_facts(operation), message=message)
            else:
                OPERATIONS.labels(operation.kind, "ended").inc()
                _log.info("operation ended", **_facts(operation))
        except PenchantError as error:
            _log.error("operation left to its lease", **_facts(operation), error=error.message)

    async def _give_back(self, operation: Operation) -> None:
        try:
            if await self._store.release(operation.operation_id, operation.worker):
                _log.info("operation given back", **_facts(operation))
        except PenchantError as error:
            _log.warning("operation left to its lease", **_facts(operation), error=error.message)


def next_run_or_never(schedule: str, after: datetime) -> datetime | None:
    """As `next_run`; a schedule that no longer parses does not keep the others from running."""
    try:
        return next_run(schedule, after)
    except ValueError:
        _log.error("schedule does not parse", schedule=schedule)
        return None


def _facts(operation: Operation) -> dict[str, str]:
    return {
        "operation": operation.operation_id,
        "kind": operation.kind,
        "tenant_id": operation.tenant_id,
        "target": operation.target,
    }
