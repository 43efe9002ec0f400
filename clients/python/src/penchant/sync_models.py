"""The calls of models and operations of the blocking client."""

import itertools
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import grpc

from penchant import errors, model_calls, model_responses
from penchant.model_values import ModelVersion, Operation
from penchant.requests.models import operation_name
from penchant.sync_calls import SyncCall, SyncCaller, SyncPages
from penchant.transfers import ExportedFile, import_requests
from penchant.v1 import model_pb2 as pb
from penchant.waiting import Patience


class SyncModelCalls:
    """Training models, choosing which version answers, and what is under way."""

    caller: SyncCaller

    list_algorithms = SyncCall(model_calls.LIST_ALGORITHMS)
    create_model = SyncCall(model_calls.CREATE_MODEL)
    get_model = SyncCall(model_calls.GET_MODEL)
    list_models = SyncPages(model_calls.LIST_MODELS)
    update_model = SyncCall(model_calls.UPDATE_MODEL)
    delete_model = SyncCall(model_calls.DELETE_MODEL)
    train_model = SyncCall(model_calls.TRAIN_MODEL)
    cancel_training = SyncCall(model_calls.CANCEL_TRAINING)
    list_versions = SyncPages(model_calls.LIST_VERSIONS)
    promote_version = SyncCall(model_calls.PROMOTE_VERSION)
    rollback_model = SyncCall(model_calls.ROLLBACK_MODEL)
    delete_version = SyncCall(model_calls.DELETE_VERSION)
    clean_up_models = SyncCall(model_calls.CLEAN_UP_MODELS)
    evaluate_model = SyncCall(model_calls.EVALUATE_MODEL)
    compare_models = SyncCall(model_calls.COMPARE_MODELS)
    get_operation = SyncCall(model_calls.GET_OPERATION)
    list_operations = SyncPages(model_calls.LIST_OPERATIONS)
    cancel_operation = SyncCall(model_calls.CANCEL_OPERATION)

    def wait_operation(self, operation: Operation | str, *, timeout: float = 3600.0) -> Operation:
        """Waits until an operation has succeeded.

        Raises:
            PenchantError: of the class of its status, when it failed or was cancelled;
                DeadlineExceeded when it has not ended after `timeout` seconds. It goes on then.
        """
        patience = Patience(operation_name(operation), timeout)
        while True:
            caller = replace(self.caller, timeout=patience.call_secs)
            answer = caller.send(lambda stubs: stubs.operations.WaitOperation, patience.ask())
            if (ended := patience.ended(answer)) is not None:
                return ended

    def watch_training(
        self, operation: Operation | str, *, timeout: float = 3600.0
    ) -> Generator[Operation, None, None]:
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
                for message in call:
                    patience.heard()
                    yield model_responses.operation(message)
            except grpc.RpcError as error:
                time.sleep(patience.pause_after(error))
            else:
                return
            finally:
                call.cancel()

    def export_model(
        self, name: str, path: str | Path, *, version: str = "latest", timeout: float = 3600.0
    ) -> pb.ModelManifest:
        """Writes a version's artefact to `path` and its manifest beside it as `path`.json."""
        file = ExportedFile(Path(path))
        call = self.caller.connection.stubs.model.ExportModel(
            pb.ExportModelRequest(name=name, version=version),
            timeout=timeout,
            metadata=self.caller.metadata,
        )
        try:
            for message in call:
                file.add(message)
            return file.finish()
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        finally:
            call.cancel()
            file.discard()

    def import_model(
        self, path: str | Path, *, model: str = "", timeout: float = 3600.0
    ) -> ModelVersion:
        """Makes a version of what `export_model` wrote; it does not serve yet.

        Args:
            path: of the artefact, its manifest beside it.
            model: the name to import under, made when absent; the one exported from when empty.
            timeout: the deadline of the whole stream, in seconds.
        """
        messages = import_requests(Path(path), model)
        first = next(messages)  # a missing file is the caller's error
        try:
            answer = self.caller.connection.stubs.model.ImportModel(
                itertools.chain([first], messages), timeout=timeout, metadata=self.caller.metadata
            )
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        return model_responses.imported(answer)
