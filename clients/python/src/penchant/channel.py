"""How a channel is opened: credentials, options, retries, and the metadata of every call."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

Options = Sequence[tuple[str, Any]]
Metadata = tuple[tuple[str, str], ...]

# A page of 1,000 entities with vectors and long attributes is more than gRPC's own 4 MiB.
_MAX_RECEIVE_BYTES = 64 * 1024 * 1024

# Calls that may be repeated without harm. The creates and the deletes by name are not among them:
# after a lost answer their repetition would say ALREADY_EXISTS or NOT_FOUND of our own doing.
_REPEATABLE = {
    "penchant.v1.RecommendationService": (),
    "penchant.v1.InteractionService": (),
    "penchant.v1.EntityService": (
        "UpsertEntity",
        "BatchUpsertEntities",
        "GetEntity",
        "ListEntities",
    ),
    "penchant.v1.ModelService": (
        "ListAlgorithms",
        "GetModel",
        "ListModels",
        "UpdateModel",
        "TrainModel",
        "CancelTraining",
        "ListVersions",
        "CleanUpModels",
        "EvaluateModel",
        "CompareModels",
    ),
    "penchant.v1.EmbeddingService": (),
    "penchant.v1.DemandService": (),
    "google.longrunning.Operations": (
        "GetOperation",
        "ListOperations",
        "CancelOperation",
        "WaitOperation",
    ),
    "penchant.v1.AdminService": (
        "GetTenant",
        "ListTenants",
        "UpdateTenant",
        "PlaceTenant",
        "SetInteractionType",
        "ListInteractionTypes",
        "GetMigrationVersion",
        "ListMigrations",
        "RunMigrations",
        "GetPoolStats",
        "GetCacheStats",
        "InvalidateCache",
        "GetIndexStats",
    ),
}


def service_config() -> str:
    """The gRPC service config: round_robin, and up to four attempts where UNAVAILABLE came back.

    RESOURCE_EXHAUSTED is left to the caller: a server that sheds load is not helped by more calls.
    """
    names = [
        {"service": service} | ({"method": method} if method else {})
        for service, methods in _REPEATABLE.items()
        for method in methods or ("",)
    ]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [{"name": names, "retryPolicy": retry}],
            "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        }
    )


def call_metadata(tenant: str | None, api_key: str | None) -> Metadata:
    """The metadata that says on whose behalf a call is made."""
    tenant_pair = (("x-tenant-id", tenant),) if tenant is not None else ()
    key_pair = (("authorization", f"Bearer {api_key}"),) if api_key is not None else ()
    return (*tenant_pair, *key_pair)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the service is and how it is reached.

    Attributes:
        target: a gRPC target, such as `host:port` or `dns:///name:port`.
        tls: False for plain text, True for the system's certificate authorities, or credentials.
        options: gRPC channel arguments; they win over the client's own.
    """

    target: str
    tls: bool | grpc.ChannelCredentials = False
    options: Options = ()

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """The channel's credentials; None for plain text."""
        if isinstance(self.tls, bool):
            return grpc.ssl_channel_credentials() if self.tls else None
        return self.tls

    @property
    def arguments(self) -> list[tuple[str, Any]]:
        """The channel's arguments, each named once."""
        return list(
            {
                "grpc.service_config": service_config(),
                "grpc.max_receive_message_length": _MAX_RECEIVE_BYTES,
                **dict(self.options),
            }.items()
        )

    def open(self) -> grpc.Channel:
        """A blocking channel."""
        if (credentials := self.credentials) is not None:
            return grpc.secure_channel(self.target, credentials, self.arguments)
        return grpc.insecure_channel(self.target, self.arguments)

    def open_async(self) -> grpc.aio.Channel:
        """An asyncio channel of the running loop."""
        if (credentials := self.credentials) is not None:
            return grpc.aio.secure_channel(self.target, credentials, self.arguments)
        return grpc.aio.insecure_channel(self.target, self.arguments)
