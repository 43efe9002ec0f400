"""How a channel is opened: credentials, options, retries, and the metadata of every call."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import grpc

Options = Sequence[tuple[str, Any]]
Metadata = tuple[tuple[str, str], ...]
File = str | PathLike[str]

# A page of 1,000 entities with vectors and long attributes is more than gRPC's own 4 MiB.
_MAX_RECEIVE_BYTES = 64 * 1024 * 1024

# A server that comes back is found within two seconds; gRPC's own waits grow to two minutes.
_FIRST_RECONNECT_MS = 100
_LAST_RECONNECT_MS = 2000

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
    "penchant.v1.ApiKeyService": ("GetApiKey", "ListApiKeys", "RevokeApiKey"),
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

    CANCELLED, where the caller did not cancel, is the same: grpc's core ends with it a call that
    reaches a server in the moment in which it closes, and nothing of that call was done.
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
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
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


def channel_credentials(
    tls: bool | grpc.ChannelCredentials,
    root_certificates: File | None,
    certificate: File | None,
    key: File | None,
) -> grpc.ChannelCredentials | None:
    """The credentials that a client's arguments ask for; None: plain text.

    Raises:
        ValueError: the arguments contradict one another.
        OSError: a file cannot be read.
    """
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key go together")
    if root_certificates is None and certificate is None and isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    if not isinstance(tls, bool):
        if root_certificates is None and certificate is None:
            return tls
        raise ValueError("tls holds credentials already; give those or files")
    roots, private_key, chain = (
        None if file is None else Path(file).read_bytes()
        for file in (root_certificates, key, certificate)
    )
    return grpc.ssl_channel_credentials(roots, private_key, chain)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the service is and how it is reached.

    Attributes:
        target: a gRPC target, such as `host:port` or `dns:///name:port`.
        credentials: the channel's; None for plain text.
        options: gRPC channel arguments; they win over the client's own.
    """

    target: str
    credentials: grpc.ChannelCredentials | None = None
    options: Options = ()

    @property
    def arguments(self) -> list[tuple[str, Any]]:
        """The channel's arguments, each named once."""
        return list(
            {
                "grpc.service_config": service_config(),
                "grpc.max_receive_message_length": _MAX_RECEIVE_BYTES,
                "grpc.initial_reconnect_backoff_ms": _FIRST_RECONNECT_MS,
                "grpc.max_reconnect_backoff_ms": _LAST_RECONNECT_MS,
                **dict(self.options),
            }.items()
        )

    def open(self) -> grpc.Channel:
        """A blocking channel."""
        if self.credentials is not None:
            return grpc.secure_channel(self.target, self.credentials, self.arguments)
        return grpc.insecure_channel(self.target, self.arguments)

    def open_async(self) -> grpc.aio.Channel:
        """An asyncio channel of the running loop."""
        if self.credentials is not None:
            return grpc.aio.secure_channel(self.target, self.credentials, self.arguments)
        return grpc.aio.insecure_channel(self.target, self.arguments)
