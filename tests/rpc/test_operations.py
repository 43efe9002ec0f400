"""TrainModel, WatchTraining and google.longrunning.Operations; the tests do the worker's part."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from penchant.v1 import model_pb2 as pb

from server import operation_watch
from server.deps import connect
from server.settings import Settings
from server.wiring import build_server
from storage.operations import Operation
from tests.rpc.conftest import Service, refusal_of
from tests.rpc.model_worlds import add_version, make_model, models_of, operations_of

UNKNOWN = "operations/00000000-0000-7000-8000-000000000000"
LEASE_SECS = 60


async def train(service: Service, name: str = "main", tenant: str = "a") -> Any:
    return await service.call("TrainModel", pb.TrainModelRequest(name=name), tenant)


async def get(service: Service, name: str, tenant: str = "a") -> Any:
    return await service.call("GetOperation", operations_pb2.GetOperationRequest(name=name), tenant)


def metadata_of(operation: Any) -> pb.TrainModelMetadata:
    metadata = pb.TrainModelMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


async def claim(service: Service) -> Operation:
    claimed = await operations_of(service).claim("worker", LEASE_SECS)
    assert claimed is not None
    return claimed


async def report(service: Service, operation: Operation, phase: str, share: float) -> bool:
    return await operations_of(service).report(
        operation.operation_id, "worker", phase, share, LEASE_SECS
    )


async def finish(service: Service, operation: Operation, state: Any, **facts: Any) -> None:
    assert await operations_of(service).finish(operation.operation_id, "worker", state, **facts)


def watch(service: Service, name: str, tenant: str = "a") -> Any:
    return service.model.WatchTraining(
        pb.WatchTrainingRequest(operation=name), metadata=(("x-tenant-id", tenant),), timeout=20
    )


def wait_request(name: str, seconds: float | None = None) -> Any:
    timeout = None if seconds is None else Duration(nanos=int(seconds * 1e9))
    return operations_pb2.WaitOperationRequest(name=name, timeout=timeout)


@pytest.fixture
async def trained(service: Service) -> Service:
    """The service with a model to train."""
    await make_model(service)
    return service


async def test_training_is_pending_once(trained: Service):
    first = await train(trained)
    metadata = metadata_of(first)
    assert first.name.startswith("operations/")
    assert not first.done
    assert (metadata.model, metadata.state, metadata.share) == ("main", "pending", 0)
    assert metadata.HasField("create_time")
    assert not metadata.HasField("start_time")
    assert (await train(trained)).name == first.name
    assert (await get(trained, first.name)) == first
    await claim(trained)
    assert (await train(trained)).name == first.name
    evaluation = await trained.call("EvaluateModel", pb.EvaluateModelRequest(name="main"))
    assert evaluation.name != first.name


async def test_trainings_asked_for_together_are_one(trained: Service):
    operations = await asyncio.gather(*(train(trained) for _ in range(8)))
    assert len({operation.name for operation in operations}) == 1


async def test_watch_tells_every_change_to_the_end(trained: Service):
    name = (await train(trained)).name
    call = watch(trained, name)
    assert metadata_of(await call.read()).state == "pending"
    operation = await claim(trained)
    assert metadata_of(await call.read()).state == "running"
    await report(trained, operation, "fitting item_knn", 0.5)
    running = metadata_of(await call.read())
    assert (running.phase, running.share) == ("fitting item_knn", 0.5)
    await add_version(trained)
    response = {"version": "1", "promoted": False, "promotion_note": "never promoted"}
    await finish(trained, operation, "succeeded", response=response)
    last = await call.read()
    assert last.done
    assert (metadata_of(last).state, metadata_of(last).share) == ("succeeded", 1)
    assert metadata_of(last).HasField("end_time")
    made = pb.TrainModelResponse()
    assert last.response.Unpack(made)
    assert (made.version.model, made.version.version) == ("main", "1")
    assert made.version.state == pb.VERSION_STATE_READY
    assert (made.promoted, made.promotion_note) == (False, "never promoted")
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    assert await get(trained, name) == last


async def test_watch_of_what_has_ended_is_one_message(trained: Service):
    name = (await train(trained)).name
    await trained.call("CancelTraining", pb.CancelTrainingRequest(operation=name))
    (only,) = [operation async for operation in watch(trained, name)]
    assert only.done
    assert metadata_of(only).state == "cancelled"
    assert only.error.code == grpc.StatusCode.CANCELLED.value[0]


async def test_version_of_a_training_may_be_cleaned_up(trained: Service):
    name = (await train(trained)).name
    operation = await claim(trained)
    await finish(trained, operation, "succeeded", response={"version": "1", "promoted": True})
    made = pb.TrainModelResponse()
    assert (await get(trained, name)).response.Unpack(made)
    assert (made.version.version, made.version.state) == ("1", pb.VERSION_STATE_DELETED)
    assert made.promoted


async def test_failed_training_says_why(trained: Service):
    name = (await train(trained)).name
    operation = await claim(trained)
    await finish(
        trained,
        operation,
        "failed",
        error_code=9,
        error_reason="NOT_ENOUGH_DATA",
        error_message="There are 3 interactions, 10 are needed.",
    )
    failed = await get(trained, name)
    assert (failed.done, failed.error.code) == (True, 9)
    assert failed.error.message == "There are 3 interactions, 10 are needed."
    info = error_details_pb2.ErrorInfo()
    assert failed.error.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["operation"]) == (
        "NOT_ENOUGH_DATA",
        "penchant",
        name,
    )
    assert metadata_of(failed).state == "failed"
    assert (await train(trained)).name != name


async def test_evaluation_answers_with_metrics(trained: Service):
    request = pb.EvaluateModelRequest(name="main", split="random", k=[20, 5, 5])
    name = (await trained.call("EvaluateModel", request)).name
    operation = await claim(trained)
    assert (operation.kind, operation.request) == ("evaluate", {"split": "random", "k": [5, 20]})
    response = {"metrics": {"ndcg@5": 0.25}, "users": 17, "split": "random"}
    await finish(trained, operation, "succeeded", response=response)
    made = pb.EvaluateModelResponse()
    assert (await get(trained, name)).response.Unpack(made)
    assert (dict(made.metrics), made.users, made.split) == ({"ndcg@5": 0.25}, 17, "random")


async def test_another_evaluation_waits_for_the_first(trained: Service):
    request = pb.EvaluateModelRequest(name="main")
    first = await trained.call("EvaluateModel", request)
    assert (await trained.call("EvaluateModel", request)).name == first.name
    other = pb.EvaluateModelRequest(name="main", split="random")
    refusal = await trained.refused("EvaluateModel", other)
    assert refusal.code == "FAILED_PRECONDITION"
    assert f"operations/{refusal.metadata['operation']}" == first.name


async def test_cancelled_before_it_began_is_over(trained: Service):
    name = (await train(trained)).name
    for _ in range(2):
        await trained.call("CancelOperation", operations_pb2.CancelOperationRequest(name=name))
    cancelled = await get(trained, name)
    assert (cancelled.done, cancelled.error.code) == (True, 1)
    assert await operations_of(trained).claim("worker", LEASE_SECS) is None


async def test_cancelled_while_it_runs_is_told_to_stop(trained: Service):
    name = (await train(trained)).name
    operation = await claim(trained)
    assert await report(trained, operation, "loading", 0.1)
    await trained.call("CancelTraining", pb.CancelTrainingRequest(operation=name))
    assert not (await get(trained, name)).done
    assert not await report(trained, operation, "loading", 0.2)


async def test_deleted_model_cancels_its_trainings(trained: Service):
    await make_model(trained, "other")
    names = [(await train(trained, name)).name for name in ("main", "other")]
    await trained.call("DeleteModel", pb.DeleteModelRequest(name="main"))
    assert [(await get(trained, name)).done for name in names] == [True, False]


async def test_wait_ends_with_its_timeout(trained: Service):
    name = (await train(trained)).name
    begin = time.monotonic()
    answer = await trained.call("WaitOperation", wait_request(name, 0.4))
    assert not answer.done
    assert 0.35 < time.monotonic() - begin < 20
    assert not (await trained.call("WaitOperation", wait_request(name, 0))).done


async def test_wait_answers_within_the_deadline(trained: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(operation_watch, "_ANSWER_SECS", 5.0)
    name = (await train(trained)).name
    answer = await trained.operations.WaitOperation(
        wait_request(name), metadata=(("x-tenant-id", "a"),), timeout=7
    )
    assert not answer.done


async def test_wait_ends_with_the_operation(trained: Service):
    name = (await train(trained)).name
    waiting = asyncio.create_task(trained.call("WaitOperation", wait_request(name)))
    operation = await claim(trained)
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await finish(trained, operation, "succeeded", response={"version": "1"})
    assert (await waiting).done


async def test_operations_are_listed_newest_first(trained: Service):
    names = []
    for model in ("m1", "m2", "m3"):
        await make_model(trained, model)
        names.append((await train(trained, model)).name)
    page = await trained.call("ListOperations", operations_pb2.ListOperationsRequest(page_size=2))
    assert [operation.name for operation in page.operations] == names[:0:-1]
    request = operations_pb2.ListOperationsRequest(
        name="operations", page_size=2, page_token=page.next_page_token
    )
    refusal = await trained.refused("ListOperations", request)
    assert refusal.reason == "PAGE_TOKEN_MISMATCH"
    request.name = ""
    rest = await trained.call("ListOperations", request)
    assert [operation.name for operation in rest.operations] == names[:1]
    assert rest.next_page_token == ""


async def test_operations_are_the_tenants_own(trained: Service):
    await trained.make_tenant("b")
    name = (await train(trained)).name
    for method, request in {
        "GetOperation": operations_pb2.GetOperationRequest(name=name),
        "CancelOperation": operations_pb2.CancelOperationRequest(name=name),
        "WaitOperation": wait_request(name),
        "CancelTraining": pb.CancelTrainingRequest(operation=name),
    }.items():
        refusal = await trained.refused(method, request, tenant="b")
        assert (method, refusal.reason) == (method, "OPERATION_NOT_FOUND")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch(trained, name, "b").read()
    assert refusal_of(caught.value).reason == "OPERATION_NOT_FOUND"
    listed = await trained.call("ListOperations", operations_pb2.ListOperationsRequest(), "b")
    assert list(listed.operations) == []
    assert not (await get(trained, name)).done


REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "get nothing": ("GetOperation", operations_pb2.GetOperationRequest(), "INVALID", "name"),
    "get no UUID": (
        "GetOperation",
        operations_pb2.GetOperationRequest(name="operations/1"),
        "INVALID",
        "name",
    ),
    "get newline": (
        "GetOperation",
        operations_pb2.GetOperationRequest(name=f"{UNKNOWN}\n"),
        "INVALID",
        "name",
    ),
    "get unknown": (
        "GetOperation",
        operations_pb2.GetOperationRequest(name=UNKNOWN),
        "NOT_FOUND",
        "",
    ),
    "wait unknown": ("WaitOperation", wait_request(UNKNOWN), "NOT_FOUND", ""),
    "cancel unknown": (
        "CancelOperation",
        operations_pb2.CancelOperationRequest(name=UNKNOWN),
        "NOT_FOUND",
        "",
    ),
    "delete": (
        "DeleteOperation",
        operations_pb2.DeleteOperationRequest(name=UNKNOWN),
        "UNIMPLEMENTED",
        "",
    ),
    "list elsewhere": (
        "ListOperations",
        operations_pb2.ListOperationsRequest(name="tasks"),
        "INVALID",
        "name",
    ),
    "list filtered": (
        "ListOperations",
        operations_pb2.ListOperationsRequest(filter="done=true"),
        "INVALID",
        "filter",
    ),
    "list negative": (
        "ListOperations",
        operations_pb2.ListOperationsRequest(page_size=-1),
        "INVALID",
        "page_size",
    ),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_bad_input_is_refused(standing: Service, case: str):
    method, request, code, field = REFUSED[case]
    refusal = await standing.refused(method, request)
    assert refusal.code == {"INVALID": "INVALID_ARGUMENT"}.get(code, code)
    assert list(refusal.fields) == ([field] if field else [])


async def test_stopping_server_ends_watches_and_waits(trained: Service, settings: Settings):
    name = (await train(trained)).name
    async with connect(settings) as deps:
        server = build_server(settings, deps)
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            other = Service(settings, deps, channel, port)
            call = watch(other, name)
            await call.read()
            waiting = asyncio.create_task(other.refused("WaitOperation", wait_request(name)))
            await asyncio.sleep(0.1)
            begin = time.monotonic()
            await server.stop(30)
            assert time.monotonic() - begin < 15
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert refusal_of(caught.value).reason == "SHUTTING_DOWN"
            assert (await waiting).reason == "SHUTTING_DOWN"


async def test_training_of_a_deleted_model_is_not_found(trained: Service):
    tenant = await trained.deps.tenants.get("a")
    await models_of(trained).delete(tenant, "main")
    refusal = await trained.refused("TrainModel", pb.TrainModelRequest(name="main"))
    assert refusal.reason == "MODEL_NOT_FOUND"
