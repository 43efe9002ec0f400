"""The edge around every call, over a real port."""

# ruff: noqa: N802 - gRPC's names for its methods

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from penchant.v1 import entity_pb2, entity_pb2_grpc, interaction_pb2

from server.admission import Admission
from server.call import Call, current_call, tenant_of_call
from server.hot_path import HotPath
from server.outcomes import code_after
from storage.exceptions import InvalidArgument
from tests.server.conftest import TwoTenants
from tests.waiting import until

GET = "/penchant.v1.EntityService/GetEntity"
LIST = "/penchant.v1.EntityService/ListEntities"
UPSERT = "/penchant.v1.EntityService/UpsertEntity"
STREAM = "/penchant.v1.InteractionService/IngestInteractions"
GARBAGE = b"\xff\xff\xff"


class Entities:
    """GetEntity answers; ListEntities waits to be let go; UpsertEntity fails as it is told."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GetEntity(self, request: Any, context: Any) -> entity_pb2.GetEntityResponse:
        call = current_call()
        response = entity_pb2.GetEntityResponse()
        response.entity.entity.entity_type = tenant_of_call().tenant_id
        response.entity.entity.entity_id = call.request_id
        return response

    async def ListEntities(self, request: Any, context: Any) -> entity_pb2.ListEntitiesResponse:
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return entity_pb2.ListEntitiesResponse()

    async def UpsertEntity(self, request: Any, context: Any) -> entity_pb2.UpsertEntityResponse:
        assert self.error is not None
        raise self.error

    BatchUpsertEntities = DeleteEntity = GetEntity


class Interactions:
    """Acknowledges each batch with its number."""

    async def IngestInteractions(
        self,
        request_iterator: AsyncIterator[interaction_pb2.IngestInteractionsRequest],
        context: Any,
    ) -> AsyncIterator[interaction_pb2.IngestInteractionsResponse]:
        async for _ in request_iterator:
            yield interaction_pb2.IngestInteractionsResponse(stored_count=1)

    IngestInteraction = ListInteractions = DeleteInteractions = MergeUsers = IngestInteractions


class Ready:
    """A cache that has the same answer to everything."""

    def get(self, key: tuple[str, bytes]) -> bytes:
        return entity_pb2.GetEntityResponse().SerializeToString()


async def get(edge: Any, **options: Any) -> tuple[str, str]:
    answer = entity_pb2.GetEntityResponse.FromString(await edge.call(GET, **options))
    return answer.entity.entity.entity_type, answer.entity.entity.entity_id


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("given", [None, "abc-1"])
async def test_ready_answer_has_an_id_where_its_caller_or_the_log_has_it(
    serve_edge: Any, share: float, given: str | None
) -> None:
    hot = {GET: HotPath(Ready(), TwoTenants())}  # type: ignore[arg-type]
    edge = await serve_edge(entity=Entities(), hot=hot, log_sample=share)
    call = edge.call(GET, metadata=(("x-request-id", given),) if given else ())
    await call
    found = dict(await call.trailing_metadata()).get("x-request-id")
    logged = (await edge.line())["request_id"] if share else None
    assert (edge.log.entries != []) is bool(share)
    assert found == (given or logged)


async def test_request_id_of_the_caller_comes_back(serve_edge: Any) -> None:
    edge = await serve_edge(entity=Entities())
    call = edge.call(GET, metadata=(("x-request-id", "abc-1"),))
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "abc-1"
    assert (await edge.line())["request_id"] == "abc-1"


@pytest.mark.parametrize("given", ["", "has space", "x" * 129, 'a"b'])
async def test_request_id_that_is_not_sane_is_replaced(serve_edge: Any, given: str) -> None:
    edge = await serve_edge(entity=Entities())
    _, request_id = await get(edge, metadata=(("x-request-id", given),))
    assert len(request_id) == 32


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [((), "a"), ((("x-tenant-id", "b"),), "b"), ((("x-tenant-id", "b"),) * 2, "b")],
    ids=["none", "one", "the same twice"],
)
async def test_tenant_of_the_metadata_is_resolved(
    serve_edge: Any, metadata: Any, expected: str
) -> None:
    edge = await serve_edge(entity=Entities())
    tenant_id, _ = await get(edge, metadata=metadata)
    assert tenant_id == expected
    assert (await edge.line())["tenant_id"] == expected


async def test_tenant_that_nobody_knows_is_not_found(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=Entities())
    failure = await fails(edge.call(GET, metadata=(("x-tenant-id", "c"),)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "TENANT_NOT_FOUND")


async def test_two_tenants_in_one_call_are_refused(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=Entities())
    both = (("x-tenant-id", "a"), ("x-tenant-id", "b"))
    failure = await fails(edge.call(GET, metadata=both))
    assert (failure.code, failure.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["x-tenant-id"])


async def test_bytes_that_do_not_parse_are_invalid(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=Entities())
    failure = await fails(edge.call(GET, GARBAGE))
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
    )


async def test_stream_ends_at_a_message_that_does_not_parse(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(interaction=Interactions())
    call = edge.stream(STREAM, [b"", b"", GARBAGE, b""])
    assert [await call.read() for _ in range(2)] != []
    failure = await fails(call.read())
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
    )


async def test_stream_answers_every_message(serve_edge: Any) -> None:
    edge = await serve_edge(interaction=Interactions())
    answers = [answer async for answer in edge.stream(STREAM, [b""] * 5)]
    assert len(answers) == 5
    assert (await edge.line())["code"] == "OK"


async def test_error_of_the_domain_comes_with_its_details(serve_edge: Any, fails: Any) -> None:
    error = InvalidArgument.field("entity.entity_id", "must not be empty")
    edge = await serve_edge(entity=Entities(error))
    failure = await fails(edge.call(UPSERT, metadata=(("x-request-id", "r1"),)))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.message == "entity.entity_id: must not be empty"
    assert (failure.reason, failure.fields) == ("INVALID_ARGUMENT", ["entity.entity_id"])
    assert failure.request_id == "r1"
    assert (await edge.line())["log_level"] == "info"


async def test_fault_is_told_to_the_log_alone(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=Entities(KeyError("secret")))
    failure = await fails(edge.call(UPSERT))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert failure.metadata == {"request_id": failure.request_id}
    assert "secret" not in failure.message
    entry = await edge.line()
    assert (entry["log_level"], repr(entry["exc_info"])) == ("error", "KeyError('secret')")


async def test_method_that_nobody_has_written_is_unimplemented(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=entity_pb2_grpc.EntityServiceServicer())
    failure = await fails(edge.call(UPSERT))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert (await edge.line())["log_level"] == "info"


async def test_caller_who_is_gone_is_no_fault(serve_edge: Any) -> None:
    edge = await serve_edge(entity=Entities(grpc.aio.InternalError()))
    with pytest.raises(grpc.aio.AioRpcError):
        await edge.call(UPSERT)
    entry = await edge.line()
    assert (entry["code"], entry["log_level"]) == ("CANCELLED", "info")


async def test_calls_over_the_limit_are_refused(serve_edge: Any, fails: Any) -> None:
    servicer = Entities()
    edge = await serve_edge(entity=servicer, limit=1)
    first = edge.call(LIST)
    await servicer.begun.wait()
    failure = await fails(edge.call(GET))
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_CALLS",
    )
    assert failure.retry_secs == 0.1
    assert failure.metadata == {"limit": "1"}
    servicer.go_on.set()
    await first
    await get(edge)


async def test_of_calls_over_the_limit_all_are_counted_and_one_a_second_is_logged(
    serve_edge: Any, fails: Any
) -> None:
    servicer = Entities()
    edge = await serve_edge(entity=servicer, limit=1, deadline_secs=60)
    first = edge.call(LIST)
    await servicer.begun.wait()
    ids = []
    for number in range(20):
        failure = await fails(edge.call(GET, metadata=(("x-request-id", f"r{number}"),)))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        ids.append(failure.request_id)
    assert ids == [f"r{number}" for number in range(20)]
    servicer.go_on.set()
    await first
    labels = {
        "service": "penchant.v1.EntityService",
        "method": "GetEntity",
        "code": "RESOURCE_EXHAUSTED",
    }
    await edge.counted("penchant_calls_total", labels, 20)
    refused = [line for line in edge.log.entries if line.get("reason") == "TOO_MANY_CALLS"]
    assert 1 <= len(refused) < 20
    assert (refused[0]["request_id"], refused[0]["code"]) == ("r0", "RESOURCE_EXHAUSTED")


async def test_call_without_a_deadline_gets_the_default(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=Entities(), deadline_secs=0.05)
    failure = await fails(edge.call(LIST))
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
    )


async def test_deadline_of_the_caller_ends_the_work(serve_edge: Any) -> None:
    servicer = Entities()
    edge = await serve_edge(entity=servicer)
    await get(edge)  # the connection takes its time, too
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.call(LIST, timeout=3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await until(servicer.cancelled.is_set)
    (code,) = await until(lambda: [e["code"] for e in edge.log.entries][1:])
    # The caller's clock began a moment before the service's, and says by a cancellation that it
    # has run out.
    assert code in {"DEADLINE_EXCEEDED", "CANCELLED"}


@pytest.mark.parametrize(
    ("deadline", "code"),
    [(-0.01, "DEADLINE_EXCEEDED"), (60, "CANCELLED"), (None, "CANCELLED")],
    ids=str,
)
def test_cancelled_call_whose_deadline_is_over_is_late(deadline: float | None, code: str) -> None:
    ends = None if deadline is None else time.monotonic() + deadline
    call = Call("r", LIST, "peer", Admission(1), ends)
    assert code_after(asyncio.CancelledError(), call, None).name == code


async def test_status_of_the_servicer_s_own_stands_when_the_deadline_comes_after_it(
    serve_edge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(Entities):
        async def GetEntity(self, request: Any, context: Any) -> entity_pb2.GetEntityResponse:
            sending = asyncio.ensure_future(context.abort(grpc.StatusCode.NOT_FOUND, "gone"))
            await asyncio.wait([sending])
            assert isinstance(sending.exception(), grpc.aio.AbortError)
            await asyncio.sleep(10)
            raise AssertionError

    edge = await serve_edge(entity=Gone())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.call(GET, timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await edge.line())["code"] == "NOT_FOUND"
    assert "Unexpected" not in caplog.text


async def test_call_that_is_cancelled_ends_the_work(serve_edge: Any) -> None:
    servicer = Entities()
    edge = await serve_edge(entity=servicer)
    call = edge.call(LIST)
    await servicer.begun.wait()
    call.cancel()
    await until(servicer.cancelled.is_set)
    assert await logged_code(edge) == "CANCELLED"
    assert edge.admission.in_flight == 0


async def logged_code(edge: Any) -> str:
    return str((await edge.line())["code"])


async def test_drain_lets_calls_end_and_refuses_later_ones(serve_edge: Any, fails: Any) -> None:
    servicer = Entities()
    edge = await serve_edge(entity=servicer)
    first = edge.call(LIST)
    await servicer.begun.wait()
    edge.admission.drain()
    failure = await fails(edge.call(GET))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert not await edge.admission.idle(0.01)
    servicer.go_on.set()
    assert await first == b""
    assert await edge.admission.idle(5)


async def test_drain_ends_a_stream_that_waits_for_its_caller(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(interaction=Interactions())
    call = edge.stream(STREAM)
    await call.write(b"")
    await call.read()
    edge.admission.drain()
    failure = await fails(call.read())
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert await edge.admission.idle(5)


async def test_metrics_count_calls_by_code(serve_edge: Any, fails: Any) -> None:
    edge = await serve_edge(entity=Entities(InvalidArgument()))
    await get(edge)
    await fails(edge.call(UPSERT))
    # The status leaves before the call has ended here.
    edge.admission.drain()
    assert await edge.admission.idle(5)
    await asyncio.sleep(0)
    value = edge.metrics.registry.get_sample_value
    for method, code in (("GetEntity", "OK"), ("UpsertEntity", "INVALID_ARGUMENT")):
        labels = {"service": "penchant.v1.EntityService", "method": method, "code": code}
        await edge.counted("penchant_calls_total", labels, 1)
    assert value("penchant_call_seconds_count", {"method": GET}) == 1
    assert value("penchant_calls_in_flight") == 0


async def test_method_that_nobody_has_is_unimplemented(serve_edge: Any) -> None:
    edge = await serve_edge(entity=Entities())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.call("/penchant.v1.EntityService/Nothing")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
