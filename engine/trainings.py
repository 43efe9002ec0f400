"""Trainings and evaluations: asked for here, run by the jobs process."""

from collections.abc import Sequence
from typing import Any

from engine.evaluation.evaluate import KS
from engine.evaluation.splits import DEFAULT_SPLIT, SPLITS
from engine.registry_views import check_name
from engine.tenants import TenantDirectory
from storage.exceptions import FailedPrecondition, InvalidArgument
from storage.models import ModelStore
from storage.operations import Operation, OperationStore
from storage.tenants import Tenant

_MAX_K = 100
_MAX_KS = 5
_LOOKED_AT = 1000


class Trainings:
    """Long work on models, for one tenant a call."""

    def __init__(
        self, tenants: TenantDirectory, models: ModelStore, operations: OperationStore
    ) -> None:
        self._run = tenants.run
        self._models = models
        self._operations = operations

    async def train(self, tenant: Tenant, name: str, *, incremental: bool = False) -> Operation:
        """Starts a training; the one under way if there is one.

        Args:
            incremental: makes only those rows anew that interactions since the newest version
                touch, where the algorithm allows it.

        Raises:
            NotFound: there is no such model (MODEL_NOT_FOUND).
        """
        return await self._start(
            tenant, "train", name, {"incremental": True} if incremental else {}
        )

    async def evaluate(self, tenant: Tenant, name: str, split: str, ks: Sequence[int]) -> Operation:
        """Starts an evaluation; the one under way if it is the same.

        Args:
            split: how the interactions are parted; "" for temporal.
            ks: list lengths; 10 and 20 when empty.

        Raises:
            NotFound: there is no such model (MODEL_NOT_FOUND).
            FailedPrecondition: another evaluation of the model is under way.
        """
        split = split or DEFAULT_SPLIT
        if split not in SPLITS:
            raise InvalidArgument.field(
                "split", f"there is no split {split[:100]!r}; there are: {', '.join(SPLITS)}"
            )
        lengths = sorted(set(ks)) or list(KS)
        if len(lengths) > _MAX_KS or not all(1 <= k <= _MAX_K for k in lengths):
            raise InvalidArgument.field(
                "k", f"must be at most {_MAX_KS} lengths within 1 and {_MAX_K}"
            )
        asked = {"split": split, "k": lengths}
        operation = await self._start(tenant, "evaluate", name, asked)
        if operation.request != asked:
            raise FailedPrecondition(
                f"Another evaluation of the model {name!r} is under way; wait for it or cancel it.",
                metadata={"operation": operation.operation_id},
            )
        return operation

    async def get(self, tenant: Tenant, operation_id: str) -> Operation:
        """An operation as it stands; NotFound (OPERATION_NOT_FOUND) for none."""
        return await self._operations.get(tenant, operation_id)

    async def page(self, tenant: Tenant, before: str | None, limit: int) -> list[Operation]:
        """Operations before one, newest first."""
        return await self._operations.page(tenant, before, limit)

    async def cancel(self, tenant: Tenant, operation_id: str) -> Operation:
        """Asks an operation to stop; one that has ended stays as it is."""
        return await self._operations.request_cancel(tenant, operation_id)

    async def cancel_of(self, tenant: Tenant, name: str) -> None:
        """Asks everything that is under way for a model to stop."""
        for operation in await self._operations.page(tenant, None, _LOOKED_AT):
            if operation.target == name and not operation.done:
                await self._operations.request_cancel(tenant, operation.operation_id)

    async def _start(
        self, tenant: Tenant, kind: str, name: str, request: dict[str, Any]
    ) -> Operation:
        check_name(name)
        await self._run(tenant, lambda t: self._models.get(t, name))
        return await self._run(tenant, lambda t: self._operations.start(t, kind, name, request))
