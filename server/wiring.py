"""The server put together: the only place where parts meet the wire."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from google.longrunning import operations_pb2_grpc  # type: ignore[import-untyped]
from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penchant.v1 import (
    admin_pb2_grpc,
    api_key_pb2_grpc,
    demand_pb2_grpc,
    embedding_pb2_grpc,
    entity_pb2_grpc,
    interaction_pb2_grpc,
    model_pb2_grpc,
    privacy_pb2_grpc,
    recommendation_pb2_grpc,
)

from server.audit import CallAudit
from server.authentication import Authenticator
from server.certificates import TlsFiles
from server.deps import Deps
from server.edge import Edge
from server.handlers import guarded
from server.health import HealthMonitor
from server.hot_path import HotPath
from server.listening import OPEN_WARNING, listening_host
from server.metrics import Metrics
from server.quotas import RequestQuotas
from server.reflection import add_reflection
from server.servicers.admin import AdminServicer
from server.servicers.api_key import ApiKeyServicer
from server.servicers.demand import DemandServicer
from server.servicers.embedding import EmbeddingServicer
from server.servicers.entity import EntityServicer
from server.servicers.interaction import InteractionServicer
from server.servicers.model import ModelServicer
from server.servicers.operations import OperationsServicer
from server.servicers.privacy import PrivacyServicer
from server.servicers.recommendation import RecommendationServicer
from server.settings import Settings
from server.tls import ServerTls

SERVICES: tuple[tuple[str, Callable[[Any, grpc.aio.Server], None], Callable[[Deps], Any]], ...] = (
    (
        "penchant.v1.RecommendationService",
        recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server,
        lambda deps: RecommendationServicer(
            deps.tenants,
            deps.recommender,
            deps.finder,
            deps.answers,
            deps.wire_cache,
            deps.renewals,
        ),
    ),
    (
        "penchant.v1.InteractionService",
        interaction_pb2_grpc.add_InteractionServiceServicer_to_server,
        lambda deps: InteractionServicer(deps.log),
    ),
    (
        "penchant.v1.EntityService",
        entity_pb2_grpc.add_EntityServiceServicer_to_server,
        lambda deps: EntityServicer(deps.catalogue),
    ),
    (
        "penchant.v1.AdminService",
        admin_pb2_grpc.add_AdminServiceServicer_to_server,
        lambda deps: AdminServicer(
            deps.administration,
            deps.migrations,
            deps.database,
            deps.cache,
            deps.quotas,
            deps.audit,
            deps.integrity,
        ),
    ),
    (
        "penchant.v1.ApiKeyService",
        api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server,
        lambda deps: ApiKeyServicer(deps.keys),
    ),
    (
        "penchant.v1.ModelService",
        model_pb2_grpc.add_ModelServiceServicer_to_server,
        lambda deps: ModelServicer(deps.registry, deps.trainings, deps.transfers),
    ),
    (
        "penchant.v1.EmbeddingService",
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server,
        lambda deps: EmbeddingServicer(deps.embeddings),
    ),
    (
        "penchant.v1.DemandService",
        demand_pb2_grpc.add_DemandServiceServicer_to_server,
        lambda deps: DemandServicer(deps.demand),
    ),
    (
        "penchant.v1.PrivacyService",
        privacy_pb2_grpc.add_PrivacyServiceServicer_to_server,
        lambda deps: PrivacyServicer(deps.privacy),
    ),
    (
        "google.longrunning.Operations",
        operations_pb2_grpc.add_OperationsServicer_to_server,
        lambda deps: OperationsServicer(deps.trainings, deps.registry),
    ),
)
"""Every service: its name, how it is added, and its servicer. A new one is one more line."""

# gRPC cancels calls of any caller once about a thousand wait to be taken: without a limit one
# connection that opens and resets streams would have all others refused.
_STREAMS_A_CONNECTION = 256
_RECOMMEND = "/penchant.v1.RecommendationService/Recommend"
_QUEUED_SECS = 0.1
_LAST_SECS = 0.5

_log = structlog.get_logger(__name__)


class Server:
    """A server of one process, from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        server: grpc.aio.Server,
        edge: Edge,
        authenticator: Authenticator,
        health: HealthMonitor,
        tls: ServerTls | None,
    ) -> None:
        self._settings = settings
        self._server = server
        self._edge = edge
        self._authenticator = authenticator
        self.health = health
        self._tls = tls
        self.port = 0

    async def start(self) -> int:
        """Listens; health becomes SERVING with the first good check. Returns the port."""
        await self.health.prepare()
        await self._authenticator.start()
        host = listening_host(self._settings, self._authenticator.is_required)
        if host != self._settings.host:
            _log.warning(OPEN_WARNING, host=host, asked_for=self._settings.host)
        address = f"{host}:{self._settings.port}"
        if self._tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self._tls.credentials)
            self._tls.start()
        await self._server.start()
        await self.health.start()
        return self.port

    async def stop(self, grace: float | None = None) -> None:
        """Refuses new calls, lets those under way end within the grace; health is NOT_SERVING."""
        admission = self._edge.admission
        admission.drain()
        await self.health.drain()
        limit = self._settings.shutdown_grace_secs if grace is None else grace
        await admission.idle(limit)
        # grpc cancels calls that have arrived and wait for the event loop: it refuses them first.
        await asyncio.sleep(min(limit, _QUEUED_SECS))
        # Open now are health watches, calls past the grace and answers on their way out.
        await self._server.stop(min(limit, _LAST_SECS))
        await self._authenticator.stop()
        if self._tls is not None:
            await self._tls.stop()

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._server.wait_for_termination()


def build_server(settings: Settings, deps: Deps) -> Server:
    """Wires settings and parts to a server that has not started yet."""
    metrics = Metrics()
    authenticator = Authenticator(deps.key_ring, deps.tokens)
    quotas = RequestQuotas(deps.rates, deps.tenants.reread)
    hot = HotPath(deps.wire_cache, deps.tenants, callers=authenticator, quotas=quotas)
    edge = Edge(
        deps.tenants,
        metrics,
        max_concurrent_calls=settings.max_concurrent_calls,
        default_deadline_secs=settings.default_deadline_secs,
        authenticator=authenticator,
        quotas=quotas,
        audit=CallAudit(deps.audit, metrics),
        hot={_RECOMMEND: hot},
        log_sample=1.0 if settings.log_level == "debug" else settings.access_log_sample,
    )
    server = grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_concurrent_streams", _STREAMS_A_CONNECTION),
            ("grpc.max_connection_age_ms", int(settings.max_connection_age_secs * 1000)),
            (
                "grpc.max_connection_age_grace_ms",
                int(settings.max_connection_age_grace_secs * 1000),
            ),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.enable_channelz", 1),
        ),
    )
    behind_edge = guarded(server, edge.around)
    for _, add, make in SERVICES:
        add(make(deps), behind_edge)
    health = HealthMonitor(deps.database, deps.cache, metrics, can_answer=deps.last_good.can_answer)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, behind_edge)
    # Its own helper takes what stands around the server for a server without asyncio.
    channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), behind_edge)
    add_reflection(
        behind_edge,
        (
            *(name for name, _, _ in SERVICES),
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
        ),
    )
    files = TlsFiles.of(settings)
    tls = None if files is None else ServerTls(files, metrics)
    return Server(settings, server, edge, authenticator, health, tls)
