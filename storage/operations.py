"""Long work: rows of one table, which callers watch and which is the queue for those who run it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import orjson

from storage.database import Database
from storage.exceptions import NotFound
from storage.queries import load
from storage.quotas import check_training
from storage.tenants import Tenant

_SQL = load("operations")

State = Literal["pending", "running", "succeeded", "failed", "cancelled"]

CANCELLED_CODE = 1
"""`error_code` holds numbers of google.rpc.Code."""
ABORTED_CODE = 10
CANCELLED_MESSAGE = "The operation was cancelled."
_ABANDONED_MESSAGE = "The process that ran the operation was not heard of any more."
_DUE_AT_ONCE = 100

NextRun = Callable[[str, datetime], datetime | None]
"""When a schedule comes next after an instant; None: never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Long work as its row says.

    Attributes:
        kind: what is to be done ("train", "evaluate").
        target: what it is done to, such as a model's name.
        share: how much of the whole is done, 0 to 1.
        error_code: number of google.rpc.Code; None unless it failed or was cancelled.
        worker: who runs it, or ran it last; empty before.
    """

    operation_id: str
    tenant_id: str
    kind: str
    target: str
    state: State
    request: dict[str, Any]
    phase: str
    share: float
    response: dict[str, Any] | None
    error_code: int | None
    error_reason: str | None
    error_message: str | None
    cancel_requested: bool
    worker: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state not in {"pending", "running"}


def _operation(row: Any) -> Operation:
    response = row["response"]
    return Operation(
        operation_id=str(row["operation_id"]),
        tenant_id=row["tenant_id"],
        kind=row["kind"],
        target=row["target"],
        state=row["state"],
        request=orjson.loads(row["request"]),
        phase=row["phase"],
        share=row["share"],
        response=None if response is None else orjson.loads(response),
        error_code=row["error_code"],
        error_reason=row["error_reason"],
        error_message=row["error_message"],
        cancel_requested=row["cancel_requested"],
        worker=row["worker"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def _not_found(operation_id: str) -> NotFound:
    return NotFound(
        f"There is no operation {operation_id!r}.",
        reason="OPERATION_NOT_FOUND",
        metadata={"operation": operation_id},
    )


def _uuid(operation_id: str) -> UUID:
    try:
        return UUID(operation_id)
    except ValueError:
        raise _not_found(operation_id) from None


class OperationStore:
    """Starts and watches a tenant's operations; lets processes take and run those of all tenants.

    Args:
        service: connections that see one tenant at a time, for the callers' side.
        maintenance: connections that see all tenants, for those who run the work.
    """

    def __init__(self, service: Database, maintenance: Database) -> None:
        self._service = service
        self._maintenance = maintenance

    async def start(
        self, tenant: Tenant, kind: str, target: str, request: Mapping[str, Any]
    ) -> Operation:
        """Asks for work; where the same kind waits or runs for the target, returns that.

        Raises:
            QuotaExceeded: it would be new work, and the tenant's quotas are used up.
            StaleTenant: read the tenant again and repeat.
        """
        quotas = tenant.quotas
        limited = bool(quotas.training_minutes_per_day or quotas.stored_bytes)
        begin = self._service.transaction if limited else self._service.connection
        async with begin(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["start_operation"],
                tenant.tenant_id,
                tenant.tenant_no,
                tenant.version,
                kind,
                target,
                orjson.dumps(dict(request)).decode(),
            )
            assert row is not None
            if limited and row["created_at"] == row["begun_at"]:
                await check_training(connection, tenant)
        return _operation(row)

    async def get(self, tenant: Tenant, operation_id: str) -> Operation:
        """One operation; NotFound (OPERATION_NOT_FOUND) when the tenant has none of that id."""
        wanted = _uuid(operation_id)
        async with self._service.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(_SQL["get_operation"], tenant.tenant_id, wanted)
        if row is None:
            raise _not_found(operation_id)
        return _operation(row)

    async def page(
        self, tenant: Tenant, before_id: str | None, limit: int, *, kind: str | None = None
    ) -> list[Operation]:
        """Operations older than one (None: than none), newest first."""
        before = None if before_id is None else _uuid(before_id)
        async with self._service.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_operations"], tenant.tenant_id, before, limit, kind
            )
        return [_operation(row) for row in rows]

    async def request_cancel(self, tenant: Tenant, operation_id: str) -> Operation:
        """Ends what waits and asks what runs to stop; what has ended stays as it is.

        Raises:
            NotFound: the tenant has none of that id (OPERATION_NOT_FOUND).
        """
        wanted = _uuid(operation_id)
        async with self._service.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["cancel_operation"],
                tenant.tenant_id,
                wanted,
                CANCELLED_CODE,
                CANCELLED_MESSAGE,
            )
        return _operation(row) if row is not None else await self.get(tenant, operation_id)

    async def claim(self, worker: str, lease_secs: float) -> Operation | None:
        """Takes the oldest operation that waits and whose tenant has none running.

        Args:
            worker: names the taker in every later call; unique among all processes and claims.
            lease_secs: it counts as abandoned unless heard of within that time.
        """
        async with self._maintenance.connection(None) as connection:
            try:
                row = await connection.fetchrow(_SQL["claim_operation"], worker, lease_secs)
            except asyncpg.UniqueViolationError:
                return None  # another process took other work of the same tenant at this instant
        return None if row is None else _operation(row)

    async def claimed(self, operation_id: str, worker: str) -> Operation | None:
        """An operation, if the worker still holds it."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(
                _SQL["get_claimed_operation"], UUID(operation_id), worker
            )
        return None if row is None else _operation(row)

    async def report(
        self, operation_id: str, worker: str, phase: str, share: float, lease_secs: float
    ) -> bool:
        """Notes progress and extends the lease.

        Returns:
            Whether to go on: False when it shall be cancelled or is not the worker's any more.
        """
        async with self._maintenance.connection(None) as connection:
            cancelled = await connection.fetchval(
                _SQL["report_operation"],
                UUID(operation_id),
                worker,
                phase,
                min(max(share, 0.0), 1.0),
                lease_secs,
            )
        return cancelled is False

    async def extend(self, operation_id: str, worker: str, lease_secs: float) -> bool:
        """Extends the lease; False when the operation is not the worker's any more."""
        return await self._held("extend_lease", operation_id, worker, lease_secs)

    async def finish(
        self,
        operation_id: str,
        worker: str,
        state: Literal["succeeded", "failed", "cancelled"],
        *,
        response: Mapping[str, Any] | None = None,
        error_code: int | None = None,
        error_reason: str | None = None,
        error_message: str | None = None,
    ) -> bool:
        """Ends an operation; False, and no change, when it is not the worker's any more."""
        return await self._held(
            "finish_operation",
            operation_id,
            worker,
            state,
            None if response is None else orjson.dumps(dict(response)).decode(),
            error_code,
            error_reason,
            error_message,
        )

    async def release(self, operation_id: str, worker: str) -> bool:
        """Gives an operation back, to be begun anew by whoever claims it next.

        One that was to be cancelled ends as cancelled. False when it is not the worker's any more.
        """
        return await self._held(
            "release_operation", operation_id, worker, CANCELLED_CODE, CANCELLED_MESSAGE
        )

    async def fail_abandoned(self) -> list[Operation]:
        """Fails what runs past its lease (TRAINER_DIED); returns those."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["fail_abandoned"], ABORTED_CODE, _ABANDONED_MESSAGE)
        return [_operation(row) for row in rows]

    async def start_due(self, now: datetime, next_run: NextRun) -> int:
        """Starts trainings of the models that are due and moves them on to their next time.

        One transaction: over any number of processes each time runs once. Times that were missed
        count as one.

        Returns:
            How many models were due.
        """
        async with self._maintenance.transaction(None) as connection:
            due = await connection.fetch(_SQL["lock_due_models"], now, _DUE_AT_ONCE)
            if not due:
                return 0
            tenants = [row["tenant_id"] for row in due]
            names = [row["model_name"] for row in due]
            times = [next_run(row["schedule"], max(now, row["next_run_at"])) for row in due]
            await connection.execute(_SQL["start_scheduled"], tenants, names)
            await connection.execute(_SQL["move_due_models"], tenants, names, times)
        return len(due)

    async def _held(self, statement: str, operation_id: str, worker: str, *rest: Any) -> bool:
        async with self._maintenance.connection(None) as connection:
            found = await connection.fetchval(_SQL[statement], UUID(operation_id), worker, *rest)
        return found is True
