"""The real server on a real port, over a database of the test's own and the bundled Redis."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from penchant.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    demand_pb2_grpc,
    embedding_pb2_grpc,
    entity_pb2,
    entity_pb2_grpc,
    interaction_pb2,
    interaction_pb2_grpc,
    model_pb2_grpc,
    privacy_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)
from penchant.v1.common_pb2 import EntityRef

from engine import answer_writer, key_ring, shelf
from jobs.context import job_context
from jobs.registry import run_once
from server.deps import Deps, connect
from server.settings import Settings
from server.wiring import build_server
from storage.config import DatabaseConfig, RedisCacheConfig


@dataclass
class Refusal:
    """How a call was refused: its code, reason, and violations by field."""

    code: str
    reason: str
    fields: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    message: str = ""
    retry: bool = False


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The details of an error; every error must carry an ErrorInfo."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error.code()} {error.details()}"
    refusal = Refusal(error.code().name, "", message=error.details() or "")
    for packed in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        if packed.Unpack(info):
            refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
            assert info.domain == "penchant"
        elif packed.Unpack(bad):
            refusal.fields = {v.field: v.description for v in bad.field_violations}
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            refusal.retry = True
    return refusal


class Service:
    """The server under test, and stubs that call it for one tenant."""

    def __init__(
        self, settings: Settings, deps: Deps, channel: grpc.aio.Channel, port: int
    ) -> None:
        self.settings = settings
        self.deps = deps
        self.channel = channel
        self.port = port
        self.recommendation = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        self.interaction = interaction_pb2_grpc.InteractionServiceStub(channel)
        self.entity = entity_pb2_grpc.EntityServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.model = model_pb2_grpc.ModelServiceStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)
        self.embedding = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        self.demand = demand_pb2_grpc.DemandServiceStub(channel)
        self.privacy = privacy_pb2_grpc.PrivacyServiceStub(channel)

    async def call(
        self, method: str, request: Any, tenant: str | None = "a", **metadata: str
    ) -> Any:
        """Calls `Method` of whichever service has it, for a tenant."""
        for stub in (
            self.recommendation,
            self.interaction,
            self.entity,
            self.admin,
            self.model,
            self.operations,
            self.embedding,
            self.demand,
            self.privacy,
        ):
            if hasattr(stub, method):
                pairs = [(k.replace("_", "-"), v) for k, v in metadata.items()]
                if tenant is not None:
                    pairs.append(("x-tenant-id", tenant))
                return await getattr(stub, method)(request, metadata=tuple(pairs), timeout=60)
        raise AssertionError(f"no such method: {method}")

    async def refused(self, method: str, request: Any, tenant: str | None = "a") -> Refusal:
        """Calls and expects to be refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, tenant)
        return refusal_of(caught.value)

    async def make_tenant(self, tenant_id: str, **fields: Any) -> None:
        """Creates a tenant."""
        tenant = admin_pb2.Tenant(tenant_id=tenant_id, **fields)
        await self.call("CreateTenant", admin_pb2.CreateTenantRequest(tenant=tenant))

    async def put(
        self, entity_id: str, tenant: str = "a", entity_type: str = "book", **attributes: Any
    ) -> None:
        """Upserts an entity with attributes."""
        request = entity_pb2.UpsertEntityRequest()
        request.entity.entity.entity_type = entity_type
        request.entity.entity.entity_id = entity_id
        request.entity.attributes.update(attributes)
        await self.call("UpsertEntity", request, tenant)

    async def hide(self, entity_id: str) -> None:
        """Hides a book."""
        request = entity_pb2.UpsertEntityRequest()
        request.entity.entity.CopyFrom(book(entity_id))
        request.entity.hidden = True
        request.update_mask.paths.append("hidden")
        await self.call("UpsertEntity", request)

    async def did(
        self,
        user_id: str,
        entity_id: str,
        interaction_type: str = "like",
        tenant: str = "a",
        **fields: Any,
    ) -> Any:
        """Ingests an interaction with a book; returns its ack."""
        request = interaction_pb2.IngestInteractionRequest()
        request.interaction.user_id = user_id
        request.interaction.entity.entity_type = "book"
        request.interaction.entity.entity_id = entity_id
        request.interaction.interaction_type = interaction_type
        for name, value in fields.items():
            setattr(request.interaction, name, value)
        return (await self.call("IngestInteraction", request, tenant)).ack

    async def recommend(self, user_id: str = "", tenant: str = "a", **fields: Any) -> Any:
        """Recommends for a user, or for nobody."""
        if user_id:
            fields["user_id"] = user_id
        request = recommendation_pb2.RecommendRequest(**fields)
        return await self.call("Recommend", request, tenant)

    async def run_jobs(self) -> None:
        """Runs every background job once."""
        async with job_context(self.settings) as context:
            await run_once(context)


def book(entity_id: str = "b00") -> EntityRef:
    """The name of a book."""
    return EntityRef(entity_type="book", entity_id=entity_id)


def interaction(**fields: Any) -> interaction_pb2.Interaction:
    """Ada likes b00, but for the fields given; None leaves one out."""
    given = {"user_id": "ada", "entity": book(), "interaction_type": "like", **fields}
    return interaction_pb2.Interaction(**{k: v for k, v in given.items() if v is not None})


def ids(response: Any) -> list[str]:
    """The ids of an answer's items."""
    return [item.entity.entity_id for item in response.items]


def settings_for(database_url: str, redis_url: str, data_dir: Path) -> Settings:
    """Settings for a test's database; calls are few, so are connections."""
    return Settings(
        data_dir=data_dir,
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        shutdown_grace_secs=1,
        create_default_tenant=False,
        several_hosts=False,
        access_log_sample=1,
        answer_log_sample=0,
        # A busy machine must look neither like a full pool nor like a broken Redis.
        database=DatabaseConfig(
            url=database_url, min_connections=1, max_connections=8, acquire_timeout_secs=20
        ),
        cache=RedisCacheConfig(
            url=redis_url, operation_timeout_ms=10_000, connect_timeout_ms=10_000
        ),
    )


@contextmanager
def patience() -> Iterator[None]:
    """Waits of the service's own, none tested here, that a pause of a busy machine must not end."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(answer_writer, "_RECORD_SECS", 30)
        monkeypatch.setattr(key_ring, "_QUERY_SECS", 30)
        monkeypatch.setattr(shelf, "FIRST_WAIT_SECS", 30)
        yield


@asynccontextmanager
async def running(settings: Settings, *, make_tenant: bool = True) -> AsyncIterator[Service]:
    """A running server with one tenant, `a`, which is made unless it is there."""
    with patience():
        async with connect(settings) as deps:
            server = build_server(settings, deps)
            port = await server.start()
            try:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    service = Service(settings, deps, channel, port)
                    if make_tenant:
                        await service.make_tenant("a")
                    yield service
            finally:
                await server.stop(0)


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings for the test's database."""
    return settings_for(database_url, redis_url, tmp_path)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    """A running server with one tenant, `a`."""
    async with running(settings) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(
    module_database_url: str, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A running server that a module's tests share: for calls that are refused."""
    data_dir = tmp_path_factory.mktemp("data")
    async with running(settings_for(module_database_url, redis_server, data_dir)) as service:
        yield service


@pytest.fixture
async def library(service: Service) -> Service:
    """The service with sixty books of three genres in tenant `a`."""
    request = entity_pb2.BatchUpsertEntitiesRequest()
    for number in range(60):
        row = request.requests.add().entity
        row.entity.entity_type, row.entity.entity_id = "book", f"b{number:02}"
        row.attributes.update(
            {
                "title": f"Book {number}",
                "genres": [("sf", "crime", "romance")[number % 3]],
                "year": 1960 + number,
                "sold": number % 2 == 0,
            }
        )
    response = await service.call("BatchUpsertEntities", request)
    assert response.upserted_count == 60
    return service
