"""A small server that answers what the tests of the clients need, and both clients on it."""

# ruff: noqa: N802 - gRPC names its methods

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from penchant import Client, SyncClient
from penchant.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    common_pb2,
    entity_pb2,
    entity_pb2_grpc,
    interaction_pb2,
    interaction_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

BOOK = common_pb2.EntityRef(entity_type="book", entity_id="b1")


@dataclass
class Seen:
    """What arrived: requests in order, the last call's metadata and remaining seconds."""

    requests: list[Any] = field(default_factory=list)
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    deadline: float | None = None
    refusals: int = 0

    def note(self, request, context) -> None:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.deadline = context.time_remaining()


class Recommending(recommendation_pb2_grpc.RecommendationServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def Recommend(self, request, context):
        self.seen.note(request, context)
        if self.seen.refusals:
            self.seen.refusals -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        match request.user_id:
            case "slow":
                await asyncio.sleep(30)
            case "bad":
                await abort(context, invalid_filter())
            case "plain":
                await context.abort(grpc.StatusCode.DATA_LOSS, "gone")
        number = int(request.page_token or 0)
        item = recommendation_pb2.RecommendedEntity(
            entity=common_pb2.EntityRef(entity_type="book", entity_id=f"b{number}"),
            score=0.5,
            reasons=[recommendation_pb2.Reason(source="content", because_of=[BOOK], share=1)],
        )
        item.attributes.update(
            {"year": 1995, "price": 2.5, "tags": ["a", None, {"deep": True}], "title": "T"}
        )
        return recommendation_pb2.RecommendResponse(
            items=[item],
            recommendation_id="r1",
            next_page_token=str(number + 1) if number < 2 else "",
            explanation=recommendation_pb2.Explanation(phase="warm", candidate_counts={"a": 3}),
        )

    async def BatchRecommend(self, request, context):
        self.seen.note(request, context)
        results = recommendation_pb2.BatchRecommendResponse()
        results.results.add().response.recommendation_id = "r1"
        results.results.add().error.CopyFrom(
            common_pb2.RowError(
                index=1, code=5, reason="NOT_FOUND", field="user_id", message="none"
            )
        )
        return results

    async def Trending(self, request, context):
        self.seen.note(request, context)
        return recommendation_pb2.TrendingResponse(window_end=Timestamp(seconds=86400))


class Entities(entity_pb2_grpc.EntityServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def BatchUpsertEntities(self, request, context):
        self.seen.note(request, context)
        count = len(request.requests)
        errors = [common_pb2.RowError(index=3, code=3, reason="INVALID_ARGUMENT", field="x")]
        return entity_pb2.BatchUpsertEntitiesResponse(upserted_count=count - 1, errors=errors)

    async def DeleteEntity(self, request, context):
        self.seen.note(request, context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


class Interactions(interaction_pb2_grpc.InteractionServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def IngestInteraction(self, request, context):
        self.seen.note(request, context)
        if self.seen.refusals:
            self.seen.refusals -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        ack = interaction_pb2.IngestAck(
            interaction_id=request.interaction.interaction_id, freshness_token="f1"
        )
        return interaction_pb2.IngestInteractionResponse(ack=ack)

    async def IngestInteractions(self, request_iterator, context):
        async for request in request_iterator:
            self.seen.note(request, context)
            if request.interactions[0].user_id == "bad":
                await abort(context, invalid_filter())
            yield interaction_pb2.IngestInteractionsResponse(
                sequence=request.sequence, stored_count=len(request.interactions)
            )


class Administration(admin_pb2_grpc.AdminServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def ListTenants(self, request, context):
        self.seen.note(request, context)
        name = request.page_token or "a"
        return admin_pb2.ListTenantsResponse(
            tenants=[admin_pb2.Tenant(tenant_id=name)], next_page_token="b" if name == "a" else ""
        )


def invalid_filter() -> status_pb2.Status:
    """A status with every kind of detail."""
    status = status_pb2.Status(code=3, message="filter does not parse")
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="filter", description="ends early")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    info = error_details_pb2.ErrorInfo(
        reason="INVALID_FILTER", domain="penchant", metadata={"position": "7"}
    )
    for detail in (info, bad, retry):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(context, status: status_pb2.Status) -> None:
    trailer = (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", "q1"),
    )
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, status.message, trailer)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def target(seen: Seen) -> AsyncIterator[str]:
    """The address of the small server."""
    server = grpc.aio.server()
    recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(Recommending(seen), server)
    entity_pb2_grpc.add_EntityServiceServicer_to_server(Entities(seen), server)
    interaction_pb2_grpc.add_InteractionServiceServicer_to_server(Interactions(seen), server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Administration(seen), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


class Either:
    """One way to use both clients: `call` awaits an answer, `all` gathers an iterator."""

    def __init__(self, client) -> None:
        self.client = client

    def using(self, **changes) -> "Either":
        return Either(self.client.using(**changes))

    def _method(self, name: str) -> Callable:
        owner = self.client
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        return getattr(owner, last)

    async def call(self, name: str, *args, **kwargs):
        method = self._method(name)
        if isinstance(self.client, Client):
            return await method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)

    async def all(self, name: str, *args, **kwargs) -> list:
        method = self._method(name)
        if isinstance(self.client, Client):
            return [item async for item in method(*args, **kwargs)]
        return await asyncio.to_thread(lambda: list(method(*args, **kwargs)))


@pytest.fixture(params=[Client, SyncClient])
async def either(request: pytest.FixtureRequest, target: str) -> AsyncIterator[Either]:
    """Each of the two clients, as the tenant shop."""
    client = request.param(target, tenant="shop", api_key="k")
    if isinstance(client, Client):
        async with client:
            yield Either(client)
    else:
        with client:
            yield Either(client)
