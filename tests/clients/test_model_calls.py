"""The calls of models and operations of both clients, against a small server."""

# ruff: noqa: N802 - gRPC names its methods

import hashlib
import inspect
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import penchant
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from penchant import Client, SyncClient
from penchant.async_models import AsyncModelCalls
from penchant.sync_models import SyncModelCalls
from penchant.v1 import model_pb2 as pb
from penchant.v1 import model_pb2_grpc

from tests.clients.conftest import Either, Seen

NAME = "operations/0192f0c0-0000-7000-8000-000000000001"
ARTEFACT = bytes(range(256)) * 3000


def operation(state: str = "running", share: float = 0.5, **fields: Any) -> Any:
    message = operations_pb2.Operation(
        name=NAME, done=state not in {"pending", "running"}, **fields
    )
    metadata = pb.TrainModelMetadata(
        model="main", state=state, phase="loading", share=share, create_time=Timestamp(seconds=60)
    )
    message.metadata.Pack(metadata)
    return message


def succeeded() -> Any:
    message = operation("succeeded", 1)
    version = pb.ModelVersion(model="main", version="3", state=pb.VERSION_STATE_SERVING)
    version.metrics["ndcg@20"] = 0.5
    message.response.Pack(
        pb.TrainModelResponse(version=version, promoted=True, promotion_note="first")
    )
    return message


def failed() -> Any:
    message = operation("failed")
    message.error.code, message.error.message = 9, "too little"
    return message


class Models(model_pb2_grpc.ModelServiceServicer):
    """Answers what the tests need."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.sent = ARTEFACT
        self.received = b""

    async def ListAlgorithms(self, request, context):
        answer = pb.ListAlgorithmsResponse()
        answer.algorithms.add(name="als", summary="Factors.").hyperparameters.update({"k": 5})
        return answer

    async def CreateModel(self, request, context):
        self.seen.note(request, context)
        return pb.CreateModelResponse(model=request.model)

    async def UpdateModel(self, request, context):
        self.seen.note(request, context)
        return pb.UpdateModelResponse(model=request.model)

    async def GetModel(self, request, context):
        model = pb.Model(name=request.name, promotion=pb.PROMOTION_NEVER)
        return pb.GetModelResponse(model=model, latest=pb.ModelVersion(version="2"))

    async def ListModels(self, request, context):
        name = request.page_token or "a"
        return pb.ListModelsResponse(
            models=[pb.Model(name=name)], next_page_token="b" if name == "a" else ""
        )

    async def DeleteModel(self, request, context):
        self.seen.note(request, context)
        return pb.DeleteModelResponse()

    async def TrainModel(self, request, context):
        self.seen.note(request, context)
        return operation("pending", 0)

    async def WatchTraining(self, request, context):
        self.seen.note(request, context)
        yield operation("running", 0.25 * len(self.seen.requests))
        if len(self.seen.requests) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "about to stop")
        yield succeeded()

    async def ListVersions(self, request, context):
        return pb.ListVersionsResponse(versions=[pb.ModelVersion(version="1")])

    async def PromoteVersion(self, request, context):
        self.seen.note(request, context)
        return pb.PromoteVersionResponse(
            version=pb.ModelVersion(model="main", version="2"), previous="main@1"
        )

    async def CleanUpModels(self, request, context):
        self.seen.note(request, context)
        return pb.CleanUpModelsResponse(removed=["main@1"], artefacts_removed=1, bytes_freed=9)

    async def CompareModels(self, request, context):
        self.seen.note(request, context)
        versions = [pb.ComparedVersion(value=0.5, low=0.4), pb.ComparedVersion()]
        return pb.CompareModelsResponse(versions=versions, metric=request.metric)

    async def ExportModel(self, request, context):
        self.seen.note(request, context)
        yield pb.ExportModelResponse(
            manifest=pb.ModelManifest(
                model=request.name,
                version="3",
                content_hash=hashlib.sha256(ARTEFACT).hexdigest(),
                size_bytes=len(ARTEFACT),
                manifest_json=json.dumps({"algorithm": "als"}),
            )
        )
        if request.version == "gone":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "is corrupt")
        for start in range(0, len(self.sent), 100_000):
            yield pb.ExportModelResponse(chunk=self.sent[start : start + 100_000])

    async def ImportModel(self, request_iterator, context):
        async for request in request_iterator:
            if request.WhichOneof("part") == "manifest":
                self.seen.note(request, context)
            else:
                self.received += request.chunk
        return pb.ImportModelResponse(version=pb.ModelVersion(version="4"))


class Operations(operations_pb2_grpc.OperationsServicer):
    """An operation that ends with the third look."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.last = succeeded()

    async def GetOperation(self, request, context):
        return operation()

    async def CancelOperation(self, request, context):
        self.seen.note(request, context)
        return Empty()

    async def WaitOperation(self, request, context):
        self.seen.note(request, context)
        return self.last if len(self.seen.requests) == 3 else operation()


@pytest.fixture
async def models(seen: Seen) -> Models:
    return Models(seen)


@pytest.fixture
async def operations(seen: Seen) -> Operations:
    return Operations(seen)


@pytest.fixture
async def target(models: Models, operations: Operations) -> AsyncIterator[str]:
    server = grpc.aio.server()
    model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_create_model_sends_what_is_given(either: Either, seen: Seen):
    made = await either.call(
        "create_model",
        "main",
        "als",
        hyperparameters={"factors": 64},
        schedule="0 3 * * *",
        promotion="always",
        keep_versions=3,
    )
    sent = seen.requests[0].model
    assert (sent.name, sent.algorithm, sent.schedule) == ("main", "als", "0 3 * * *")
    assert (sent.promotion, sent.keep_versions) == (pb.PROMOTION_ALWAYS, 3)
    assert (made.promotion, made.hyperparameters) == ("always", {"factors": 64})
    assert seen.metadata["x-tenant-id"] == "shop"


async def test_update_model_masks_what_is_given(either: Either, seen: Seen):
    await either.call("update_model", "main", schedule="", retention_days=3)
    assert list(seen.requests[0].update_mask.paths) == ["schedule", "retention_days"]


def test_unknown_promotion_is_a_value_error():
    with pytest.raises(ValueError, match="if_not_worse"):
        SyncClient().create_model("main", "als", promotion="maybe")


async def test_model_lists_and_details_are_values(either: Either):
    assert [model.name for model in await either.all("list_models")] == ["a", "b"]
    details = await either.call("get_model", "main")
    assert (details.model.promotion, details.serving) == ("never", None)
    assert details.latest.version == "2"
    (algorithm,) = await either.call("list_algorithms")
    assert (algorithm.name, algorithm.hyperparameters) == ("als", {"k": 5})
    (version,) = await either.all("list_versions", "main")
    assert version.version == "1"


async def test_promotion_clean_up_and_comparison_are_values(either: Either, seen: Seen):
    promoted = await either.call("promote_version", "main", "2", force=True)
    assert (promoted.version.version, promoted.previous) == ("2", "main@1")
    gone = await either.call("clean_up_models", keep_versions=1)
    assert (gone.removed, gone.bytes_freed) == (("main@1",), 9)
    assert not seen.requests[-1].HasField("retention_days")
    best, last = await either.call("compare_models", ["main@1"], metric="recall@20")
    assert (best.value, best.low, best.high, last.value) == (0.5, 0.4, None, None)
    assert await either.call("delete_model", "main") is None


async def test_train_model_gives_an_operation(either: Either):
    started = await either.call("train_model", "main")
    assert (started.name, started.model, started.state) == (NAME, "main", "pending")
    assert (started.done, started.error, started.trained) == (False, None, None)
    assert started.create_time.minute == 1


async def test_wait_operation_asks_until_the_end(either: Either, seen: Seen):
    started = await either.call("get_operation", NAME)
    ended = await either.call("wait_operation", started)
    assert [request.name for request in seen.requests] == [NAME] * 3
    assert seen.requests[0].timeout.seconds > 0
    assert seen.deadline > seen.requests[0].timeout.seconds
    assert (ended.trained.version.version, ended.trained.promoted) == ("3", True)
    assert ended.trained.version.metrics == {"ndcg@20": 0.5}


async def test_wait_operation_raises_its_error(either: Either, operations: Operations):
    operations.last = failed()
    with pytest.raises(penchant.FailedPrecondition, match="too little"):
        await either.call("wait_operation", NAME)


async def test_wait_operation_ends_with_its_timeout(either: Either):
    with pytest.raises(penchant.DeadlineExceeded, match="has not ended"):
        await either.call("wait_operation", NAME, timeout=0)


async def test_watch_training_begins_again_when_a_worker_stops(either: Either, seen: Seen):
    shares = [one.share for one in await either.all("watch_training", NAME)]
    assert shares == [0.25, 0.5, 1]
    assert len(seen.requests) == 2


async def test_cancel_operation_names_it(either: Either, seen: Seen):
    await either.call("cancel_operation", NAME)
    assert seen.requests[0].name == NAME


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_exported_file_is_what_an_import_sends(
    either: Either, seen: Seen, models: Models, tmp_path: Path
):
    path = tmp_path / "main.safetensors"
    manifest = await either.call("export_model", "main", path)
    assert manifest.version == "3"
    assert path.read_bytes() == ARTEFACT
    made = await either.call("import_model", path, model="copy")
    assert made.version == "4"
    assert models.received == ARTEFACT
    sent = seen.requests[-1].manifest
    assert (sent.model, sent.size_bytes) == ("copy", len(ARTEFACT))
    assert json.loads(sent.manifest_json) == {"algorithm": "als"}
    assert files(tmp_path) == [path.name, f"{path.name}.json"]


async def test_export_that_does_not_arrive_whole_leaves_nothing(
    either: Either, models: Models, tmp_path: Path
):
    models.sent = ARTEFACT[:-1]
    with pytest.raises(penchant.PenchantError, match="checksum"):
        await either.call("export_model", "main", tmp_path / "a")
    with pytest.raises(penchant.FailedPrecondition, match="corrupt"):
        await either.call("export_model", "main", tmp_path / "a", version="gone")
    assert files(tmp_path) == []


async def test_import_of_a_file_that_is_not_there_is_the_callers_error(
    either: Either, tmp_path: Path
):
    with pytest.raises(FileNotFoundError):
        await either.call("import_model", tmp_path / "a")


def test_clients_have_the_same_calls_of_models():
    def names(owner: type) -> set[str]:
        return {name for name in vars(owner) if not name.startswith("_")}

    assert names(SyncModelCalls) == names(AsyncModelCalls)
    assert issubclass(Client, AsyncModelCalls)
    assert issubclass(SyncClient, SyncModelCalls)
    assert "hyperparameters" in inspect.signature(SyncClient().create_model).parameters
