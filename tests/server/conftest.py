"""The edge around servicers of a test's own, on a real port."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from penchant.v1 import entity_pb2_grpc, interaction_pb2_grpc
from structlog.testing import LogCapture

from server.admission import Admission
from server.edge import Edge as ServerEdge
from server.handlers import guarded
from server.hot_path import HotPath
from server.metrics import Metrics
from storage.exceptions import NotFound
from storage.tenants import Tenant, TenantSettings
from tests.waiting import until


def make_tenant(tenant_id: str) -> Tenant:
    now = datetime.now(UTC)
    return Tenant(
        tenant_id=tenant_id,
        tenant_no=1,
        display_name="",
        placement=0,
        dimension=4,
        profile_half_life_secs=1.0,
        settings=TenantSettings(),
        version=1,
        created_at=now,
        updated_at=now,
        interaction_types={},
    )


class TwoTenants:
    """Knows `a`, which is also whom calls without a tenant are for, and `b`."""

    async def resolve(self, tenant_id: str | None) -> Tenant:
        if tenant_id not in {None, "a", "b"}:
            raise NotFound(reason="TENANT_NOT_FOUND")
        return make_tenant(tenant_id or "a")

    def known(self, tenant_id: str | bytes | None) -> Tenant:
        return make_tenant(str(tenant_id or "a"))


@dataclass
class Edge:
    """A running server: how to call it and what it noted."""

    port: int
    channel: grpc.aio.Channel
    admission: Admission
    metrics: Metrics
    log: LogCapture

    async def line(self) -> Any:
        """The first line of the log: a call that fails has left before it is written."""
        return (await until(lambda: self.log.entries))[0]

    async def counted(self, name: str, labels: dict[str, str], count: float) -> None:
        """Waits until a metric is a count; they are brought up to date some times a second."""
        registry = self.metrics.registry
        await until(lambda: registry.get_sample_value(name, labels) == count)

    def call(self, method: str, request: bytes = b"", **options: Any) -> Any:
        """A unary call in bytes, whatever the method's types."""
        start: Any = self.channel.unary_unary(method)
        return start(request, **options)

    def stream(self, method: str, requests: list[bytes] | None = None, **options: Any) -> Any:
        """A call that streams both ways, in bytes."""
        start: Any = self.channel.stream_stream(method)
        return start(iter(requests) if requests is not None else None, **options)


ServeEdge = Callable[..., Coroutine[Any, Any, Edge]]


@pytest.fixture
async def serve_edge() -> AsyncIterator[ServeEdge]:
    """A function that serves an EntityService or InteractionService behind the edge."""
    running: list[tuple[grpc.aio.Channel, grpc.aio.Server]] = []

    async def serve(
        *,
        entity: Any = None,
        interaction: Any = None,
        limit: int = 10,
        deadline_secs: float = 5.0,
        hot: Mapping[str, HotPath] | None = None,
        log_sample: float = 1.0,
        add: Callable[[grpc.aio.Server], None] = lambda server: None,
    ) -> Edge:
        metrics, log = Metrics(), LogCapture()
        edge = ServerEdge(
            TwoTenants(),
            metrics,
            max_concurrent_calls=limit,
            default_deadline_secs=deadline_secs,
            hot=hot,
            log_sample=log_sample,
            log=structlog.wrap_logger(
                None, processors=[log], wrapper_class=structlog.make_filtering_bound_logger(0)
            ),
        )
        server = grpc.aio.server()
        behind = guarded(server, edge.around)
        if entity is not None:
            entity_pb2_grpc.add_EntityServiceServicer_to_server(entity, behind)
        if interaction is not None:
            interaction_pb2_grpc.add_InteractionServiceServicer_to_server(interaction, behind)
        add(behind)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        running.append((channel, server))
        return Edge(port, channel, edge.admission, metrics, log)

    yield serve
    for channel, server in running:
        await channel.close()
        await server.stop(0)


@dataclass
class Failure:
    """How a call failed, as its caller sees it."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    retry_secs: float | None
    request_id: str


Fails = Callable[[Any], Coroutine[Any, Any, Failure]]


@pytest.fixture
def fails() -> Fails:
    """A function that awaits a call which must fail, and tells how it did."""

    async def failure_of(call: Any) -> Failure:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        trailing = dict(caught.value.trailing_metadata())
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        info, retry, bad = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.BadRequest(),
        )
        retries = False
        for detail in status.details:
            detail.Unpack(info)
            retries = detail.Unpack(retry) or retries
            detail.Unpack(bad)
        assert status.code == caught.value.code().value[0]
        assert status.message == caught.value.details()
        assert info.domain == "penchant"
        return Failure(
            code=caught.value.code(),
            message=status.message,
            reason=info.reason,
            metadata=dict(info.metadata),
            fields=[violation.field for violation in bad.field_violations],
            retry_secs=retry.retry_delay.ToMilliseconds() / 1000 if retries else None,
            request_id=str(trailing["x-request-id"]),
        )

    return failure_of
