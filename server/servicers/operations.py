"""google.longrunning.Operations."""

from typing import Any

import grpc
from google.longrunning import operations_pb2 as pb  # type: ignore[import-untyped]
from google.longrunning.operations_pb2_grpc import (  # type: ignore[import-untyped]
    OperationsServicer as Generated,
)
from google.protobuf.empty_pb2 import Empty

from engine.identifiers import check_page_size
from engine.registry import ModelRegistry
from engine.trainings import Trainings
from server.call import tenant_of_call
from server.convert import to_seconds
from server.model_messages import operation_id, render_operation
from server.operation_watch import wait
from server.paging import hash_of, key_token, text_key
from storage.exceptions import InvalidArgument, Unimplemented
from storage.operations import Operation

_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 100
_Context = grpc.aio.ServicerContext[Any, Any]


class OperationsServicer(Generated):  # type: ignore[misc]  # its package publishes no types
    """What a tenant has under way, and what came of it."""

    def __init__(self, trainings: Trainings, registry: ModelRegistry) -> None:
        self._trainings = trainings
        self._registry = registry

    async def GetOperation(
        self, request: pb.GetOperationRequest, context: _Context
    ) -> pb.Operation:
        """One operation as it stands."""
        return await self._render(
            await self._trainings.get(tenant_of_call(), operation_id(request.name))
        )

    async def ListOperations(
        self, request: pb.ListOperationsRequest, context: _Context
    ) -> pb.ListOperationsResponse:
        """A page of operations, newest first."""
        if request.name not in {"", "operations"}:
            raise InvalidArgument.field("name", 'must be "operations"')
        if request.filter:
            raise InvalidArgument.field("filter", "is not supported: operations are not filtered")
        tenant = tenant_of_call()
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
        hashed = hash_of(request, tenant.tenant_id)
        (before,) = text_key(request.page_token, "operations", hashed, 1) or (None,)
        rows = await self._trainings.page(tenant, before, size + 1)
        response = pb.ListOperationsResponse()
        for row in rows[:size]:
            response.operations.append(await self._render(row))
        if len(rows) > size:
            response.next_page_token = key_token(
                "operations", hashed, [rows[size - 1].operation_id]
            )
        return response

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: _Context) -> Empty:
        """Asks an operation to stop."""
        await self._trainings.cancel(tenant_of_call(), operation_id(request.name))
        return Empty()

    async def WaitOperation(
        self, request: pb.WaitOperationRequest, context: _Context
    ) -> pb.Operation:
        """An operation once it is done, or as it stands when the time is over."""
        seconds = to_seconds(request.timeout) if request.HasField("timeout") else None
        return await self._render(
            await wait(self._trainings, tenant_of_call(), operation_id(request.name), seconds)
        )

    async def DeleteOperation(self, request: pb.DeleteOperationRequest, context: _Context) -> Empty:
        """Not done: operations are kept."""
        raise Unimplemented("Operations are kept; they cannot be deleted.")

    async def _render(self, operation: Operation) -> pb.Operation:
        made = await self._registry.made_by(tenant_of_call(), operation)
        return render_operation(operation, made)
