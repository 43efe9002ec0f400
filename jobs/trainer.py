"""One operation, carried out in a process of its own: read, fit, check, publish.

The process may be ended at any moment: nothing that others see changes before the version's row is
there, and the file is kept before that.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import structlog

from engine.models.base import Cancelled, Interactions
from engine.models.forms.clusters import ClusterModel
from engine.models.progress import Phase
from engine.tenants import TenantDirectory
from engine.training.checks import check_algorithm, check_hyperparameters
from engine.training.data import interactions
from engine.training.fitting import Trained
from engine.training.statistics import training_statistics
from engine.training.train import evaluate, train
from jobs.context import JobSettings
from jobs.publishing import Publisher, keep
from jobs.refreshing import base_of, refreshed
from jobs.segments import publish_segments
from jobs.trainer_processes import Order
from storage import exceptions as domain
from storage.artefacts import ArtefactStore
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.installation import artefacts_of
from storage.models import ModelRow, ModelStore
from storage.operations import CANCELLED_CODE, CANCELLED_MESSAGE, Operation, OperationStore
from storage.retry import retry_transient
from storage.tenants import Tenant, TenantStore
from storage.training_data import TrainingDataStore
from storage.training_metrics import TrainingMetricsStore
from storage.users import UserStore
from storage.version_slots import VersionSlots

T = TypeVar("T")

_REPORT_SECS = 0.5
_CANCEL_SECS = 5.0
"""What does not stop by itself within that time ends with the process."""
_LAST_WORD_SECS = 60.0
_PATIENCE_SECS = 30.0
"""A loss of PostgreSQL that is shorter does not cost a fit."""
_CONNECTIONS = 2
_INTERNAL = 13
_CODES: dict[type[domain.PenchantError], int] = {
    domain.InvalidArgument: 3,
    domain.DeadlineExceeded: 4,
    domain.NotFound: 5,
    domain.AlreadyExists: 6,
    domain.PermissionDenied: 7,
    domain.ResourceExhausted: 8,
    domain.FailedPrecondition: 9,
    domain.Aborted: 10,
    domain.Unavailable: 14,
}
"""Numbers of google.rpc.Code, as `Operation.error_code` holds them."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an operation failed."""

    code: int
    reason: str
    message: str


def failure_of(error: BaseException) -> Failure:
    """What callers are told of an error."""
    if isinstance(error, domain.PenchantError):
        code = next((_CODES[c] for c in type(error).__mro__ if c in _CODES), _INTERNAL)
        return Failure(code, error.reason, error.message)
    if isinstance(error, MemoryError):
        told = " ".join(str(error).split())
        message = f"The training needs more memory than it may have. {told}".rstrip()
        return Failure(_CODES[domain.FailedPrecondition], "MODEL_TOO_LARGE", message)
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]
    return Failure(_INTERNAL, "TRAINING_FAILED", message)


class Reported:
    """How far the work has come; told from any thread, read by the reporter."""

    def __init__(self) -> None:
        self.phase = ""
        self.share = 0.0
        self.stopped = False
        self.committing = False

    def __call__(self, phase: str, share: float) -> None:
        """See Progress: raises Cancelled once the operation is to stop."""
        self.phase, self.share = phase, share
        if self.stopped:
            raise Cancelled

    def commit(self) -> None:
        """From here on it can no longer be cancelled; raises Cancelled when it was before."""
        self("publishing", 0.98)
        self.committing = True


@dataclass(frozen=True, slots=True)
class TrainerStores:
    """What a trainer reads and writes."""

    tenants: TenantStore
    models: ModelStore
    metrics: TrainingMetricsStore
    data: TrainingDataStore
    users: UserStore
    operations: OperationStore
    artefacts: ArtefactStore


async def carry_out(settings: JobSettings, order: Order) -> None:
    """Carries out an order; every outcome that can be told is in the operation's row afterwards.

    Raises:
        PenchantError: PostgreSQL is away and stays away; the lease tells of it then.
    """
    config = settings.database.model_copy(
        update={"max_connections": _CONNECTIONS, "min_connections": 0}
    )
    slots = VersionSlots(settings.data_dir)
    async with AsyncExitStack() as stack:
        service, maintenance = [
            await stack.enter_async_context(Database(config, role=role, slots=slots))
            for role in (SERVICE_ROLE, MAINTENANCE_ROLE)
        ]
        stores = TrainerStores(
            TenantStore(service, maintenance),
            ModelStore(service),
            TrainingMetricsStore(service),
            TrainingDataStore(service),
            UserStore(service),
            OperationStore(service, maintenance),
            await artefacts_of(settings.data_dir, service),
        )
        await Trainer(stores, order).run()


class Trainer:
    """The work on one order."""

    def __init__(self, stores: TrainerStores, order: Order) -> None:
        self._stores = stores
        self._order = order
        self._reported = Reported()
        self._directory = TenantDirectory(stores.tenants)
        self._publisher = Publisher(stores.models, stores.metrics)
        self._began = time.monotonic()

    async def run(self) -> None:
        """From the claim to the end."""
        order = self._order
        operation = await self._stores.operations.claimed(order.operation_id, order.worker)
        if operation is None:
            _log.warning("operation is not held any more", operation=order.operation_id)
            return
        work = asyncio.create_task(self._work(operation))
        told = asyncio.create_task(self._report())
        await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and not self._reported.committing:
            await asyncio.wait((work,), timeout=_CANCEL_SECS)
        if not work.done() and not self._reported.committing:
            await self._finish(Cancelled())
            _log.warning("the fit does not stop by itself", operation=order.operation_id)
            os._exit(0)  # a thread cannot be ended otherwise
        await asyncio.wait((work,))
        told.cancel()
        outcome: dict[str, Any] | BaseException = work.exception() or work.result()
        await self._finish(outcome)

    async def _report(self) -> None:
        """Tells how far the work has come, until it is to stop."""
        order = self._order
        while True:
            await asyncio.sleep(_REPORT_SECS)
            try:
                go_on = await self._stores.operations.report(
                    order.operation_id,
                    order.worker,
                    self._reported.phase,
                    self._reported.share,
                    order.lease_secs,
                )
            except domain.PenchantError as error:
                _log.warning("progress not told", error=error.message)
                continue
            if not go_on and not self._reported.committing:
                self._reported.stopped = True
                return

    async def _finish(self, outcome: dict[str, Any] | BaseException) -> None:
        order, operations = self._order, self._stores.operations

        async def finish() -> bool:
            at = (order.operation_id, order.worker)
            if isinstance(outcome, dict):
                return await operations.finish(*at, "succeeded", response=outcome)
            if isinstance(outcome, Cancelled):
                return await operations.finish(
                    *at, "cancelled", error_code=CANCELLED_CODE, error_message=CANCELLED_MESSAGE
                )
            failure = failure_of(outcome)
            return await operations.finish(
                *at,
                "failed",
                error_code=failure.code,
                error_reason=failure.reason,
                error_message=failure.message,
            )

        if isinstance(outcome, BaseException) and not isinstance(outcome, Cancelled):
            expected = isinstance(outcome, domain.PenchantError)
            _log.error(
                "operation failed",
                operation=order.operation_id,
                error=failure_of(outcome).message,
                exc_info=None if expected else outcome,
            )
        if not await retry_transient(finish, deadline_secs=_LAST_WORD_SECS, attempts=1000):
            _log.warning("operation is not held any more", operation=order.operation_id)

    async def _work(self, operation: Operation) -> dict[str, Any]:
        tenant = await self._stores.tenants.get(operation.tenant_id)
        model = await self._run(tenant, lambda t: self._stores.models.get(t, operation.target))
        if operation.kind == "train":
            return await self._train(tenant, model, operation)
        if operation.kind == "evaluate":
            return await self._evaluate(tenant, model, operation.request)
        raise domain.Unimplemented(f"This release does not know operations {operation.kind!r}.")

    async def _run(self, tenant: Tenant, work: Callable[[Tenant], Awaitable[T]]) -> T:
        """Work that may be repeated, with the tenant's row as it is now."""
        return await retry_transient(
            lambda: self._directory.run(tenant, work), deadline_secs=_PATIENCE_SECS, attempts=1000
        )

    async def _read(self, tenant: Tenant, model: ModelRow) -> Interactions:
        """The tenant's interactions; what the model asks for wrongly is refused before."""
        check_algorithm(model.algorithm)
        check_hyperparameters(model.algorithm, model.hyperparameters)
        self._reported("reading", 0.0)
        # Only what looks at content wants the vectors, by itself or as a part of something.
        asked = orjson.dumps([model.algorithm, model.hyperparameters])
        vectors = b'"content"' in asked
        arrays = await self._run(tenant, lambda t: self._stores.data.read(t, vectors=vectors))
        self._reported("reading", 0.04)
        return await asyncio.to_thread(interactions, arrays)

    async def _fit(
        self, tenant: Tenant, model: ModelRow, data: Interactions, *, incremental: bool
    ) -> Trained:
        phase = Phase(self._reported, 0.05, 0.95)
        if incremental:
            stores = self._stores
            base = await self._run(
                tenant, lambda t: base_of(t, model, stores.models, stores.artefacts, stores.data)
            )
            if base is not None:
                found = await asyncio.to_thread(refreshed, base, model, data, phase)
                if found is not None:
                    return found
        # Whoever has versions compared wants figures of each, and pays a second fit for them.
        validate = model.promotion == "if_not_worse"
        return await asyncio.to_thread(
            train, model.algorithm, model.hyperparameters, data, phase, validate=validate
        )

    async def _train(self, tenant: Tenant, model: ModelRow, operation: Operation) -> dict[str, Any]:
        data = await self._read(tenant, model)
        self._reported("fitting", 0.05)
        fitting = time.monotonic()
        incremental = bool(operation.request.get("incremental"))
        trained = await self._fit(tenant, model, data, incremental=incremental)
        fitted = time.monotonic()
        self._reported("checking", 0.95)
        statistics = (await asyncio.to_thread(training_statistics, data)).as_dict()
        kept = await asyncio.to_thread(
            keep, trained, data, statistics, self._stores.artefacts, tenant
        )
        self._reported.commit()
        order, operations = self._order, self._stores.operations
        held = await retry_transient(lambda: operations.claimed(order.operation_id, order.worker))
        if held is None:
            raise Cancelled  # begun anew elsewhere: an erasure has removed some of what was read
        tenant = await self._run(tenant, lambda t: self._stores.tenants.get(t.tenant_id))
        # Not repeated after a lost answer, which would add a second version.
        row = await self._directory.run(
            tenant,
            lambda t: self._publisher.add(
                t, model, trained, kept, statistics, self._began, operation.started_at
            ),
        )
        await self._run(tenant, lambda t: self._publisher.save_metrics(t, row))
        verdict = await self._run(tenant, lambda t: self._publisher.promote(t, model, row))
        fitted_model = trained.model
        if isinstance(fitted_model, ClusterModel):
            await self._run(
                tenant,
                lambda t: publish_segments(
                    t, fitted_model, data, self._stores.data, self._stores.users
                ),
            )
        _log.info(
            "version trained",
            version=f"{row.model_name}@{row.version}",
            tenant_id=tenant.tenant_id,
            algorithm=trained.algorithm,
            reading_secs=round(fitting - self._began, 3),
            fit_secs=round(fitted - fitting, 3),
            publishing_secs=round(time.monotonic() - fitted, 3),
            promoted=verdict.promoted,
            note=verdict.note,
        )
        return {
            "version": row.version,
            "promoted": verdict.promoted,
            "promotion_note": verdict.note,
        }

    async def _evaluate(
        self, tenant: Tenant, model: ModelRow, request: dict[str, Any]
    ) -> dict[str, Any]:
        data = await self._read(tenant, model)
        split = request.get("split") or "temporal"
        found = await asyncio.to_thread(
            evaluate,
            model.algorithm,
            model.hyperparameters,
            data,
            split,
            tuple(request.get("k") or (10, 20)),
            Phase(self._reported, 0.05, 1.0),
        )
        metrics = {k: float(v) for k, v in found.metrics.items()}
        return {"metrics": metrics, "users": len(found.users), "split": split}
