"""The calls of models and operations of the asyncio client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from penchant import errors, model_calls, model_responses
from penchant.async_calls import AsyncCall, AsyncCaller, AsyncPages
from penchant.model_values import ModelVersion, Operation
from penchant.requests.models import operation_name
from penchant.transfers import ExportedFile, import_requests
from penchant.v1 import model_pb2 as pb
from penchant.waiting import Patience


class AsyncModelCalls:
    """Training models, choosing which version answers, and what is under way."""

    caller: AsyncCaller

    list_algorithms = AsyncCall(model_calls.LIST_ALGORITHMS)
    create_model = AsyncCall(model_calls.CREATE_MODEL)
    get_model = AsyncCall(model_calls.GET_MODEL)
    list_models = AsyncPages(model_calls.LIST_MODELS)
    update_model = AsyncCall(model_calls.UPDATE_MODEL)
    delete_model = AsyncCall(model_calls.DELETE_MODEL)
    train_model = AsyncCall(model_calls.TRAIN_MODEL)
    cancel_training = AsyncCall(model_calls.CANCEL_TRAINING)
    list_versions = AsyncPages(model_calls.LIST_VERSIONS)
    promote_version = AsyncCall(model_calls.PROMOTE_VERSION)
    rollback_model = AsyncCall(model_calls.ROLLBACK_MODEL)
    delete_version = AsyncCall(model_calls.DELETE_VERSION)
    clean_up_models = AsyncCall(model_calls.CLEAN_UP_MODELS)
    evaluate_model = AsyncCall(model_calls.EVALUATE_MODEL)
    compare_models = AsyncCall(model_calls.COMPARE_MODELS)
    get_operation = AsyncCall(model_calls.GET_OPERATION)
    list_operations = AsyncPages(model_calls.LIST_OPERATIONS)
    cancel_operation = AsyncCall(model_calls.CANCEL_OPERATION)

    async def wait_operation(
        self,
        operation: Operation | str,
        *,
        timeout: float = 3600.0,  # noqa: ASYNC109 - a deadline that the service is told
    ) -> Operation:
        """Waits until an operation has succeeded.

        Raises:
            PenchantError: of the class of its status, when it failed or was cancelled;
                DeadlineExceeded when it has not ended after `timeout` seconds. It goes on then.
        """
        patience = Patience(operation_name(operation), timeout)
        while True:
            caller = replace(self.caller, timeout=patience.call_secs)
            answer = await caller.send(lambda stubs: stubs.operations.WaitOperation, patience.ask())
            if (ended := patience.ended(answer)) is not None:
                return ended

    async def watch_training(
        self,
        operation: Operation | str,
        *,
        timeout: float = 3600.0,  # noqa: ASYNC109 - a deadline that the service is told
    ) -> AsyncGenerator[Operation, None]:
        """Gives an operation at once and at every change, until it is done.

        The watch goes on elsewhere when the worker that answers stops.
        """
        patience = Patience(operation_name(operation), timeout)
        while True:
            call = self.caller.connection.stubs.model.WatchTraining(
                pb.WatchTrainingRequest(operation=patience.operation),
                timeout=patience.left,
                metadata=self.caller.metadata,
            )
            try:
                async for message in call:
                    patience.heard()
                    yield model_responses.operation(message)
            except grpc.RpcError as error:
                await asyncio.sleep(patience.pause_after(error))
            else:
                return
            finally:
                call.cancel()

    async def export_model(
        self,
        name: str,
        path: str | Path,
        *,
        version: str = "latest",
        timeout: float = 3600.0,  # noqa: ASYNC109 - a deadline that the service is told
    ) -> pb.ModelManifest:
        """Writes a version's artefact to `path` and its manifest beside it as `path`.json."""
        file = await asyncio.to_thread(ExportedFile, Path(path))
        call = self.caller.connection.stubs.model.ExportModel(
            pb.ExportModelRequest(name=name, version=version),
            timeout=timeout,
            metadata=self.caller.metadata,
        )
        try:
            async for message in call:
                await asyncio.to_thread(file.add, message)
            return await asyncio.to_thread(file.finish)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        finally:
            call.cancel()
            file.discard()

    async def import_model(
        self,
        path: str | Path,
        *,
        model: str = "",
        timeout: float = 3600.0,  # noqa: ASYNC109 - a deadline that the service is told
    ) -> ModelVersion:
        """Makes a version of what `export_model` wrote; it does not serve yet.

        Args:
            path: of the artefact, its manifest beside it.
            model: the name to import under, made when absent; the one exported from when empty.
            timeout: the deadline of the whole stream, in seconds.
        """
        messages = import_requests(Path(path), model)
        first = await asyncio.to_thread(next, messages)  # a missing file is the caller's error

        async def send() -> AsyncIterator[Any]:
            yield first
            while (message := await asyncio.to_thread(next, messages, None)) is not None:
                yield message

        try:
            answer = await self.caller.connection.stubs.model.ImportModel(
                send(), timeout=timeout, metadata=self.caller.metadata
            )
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        return model_responses.imported(answer)
