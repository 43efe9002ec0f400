"""Keys for tests of access: made at the database, used over the wire."""

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from engine.access import ANONYMOUS
from server.wiring import SERVICES
from storage.api_keys import KeyDraft
from tests.rpc.conftest import Refusal, Service, refusal_of

GARBAGE = b"\xff\xff\xff"


async def make_key(service: Service, tenant_id: str, *scopes: str) -> str:
    """The text of a new key, of the operator where the tenant is empty."""
    draft = KeyDraft(tenant_id, "", scopes, None)
    return (await service.deps.keys.make(draft, ANONYMOUS))[1]


def metadata_of(key: str | None, tenant: str | None = None) -> list[tuple[str, str]]:
    """What a caller with a key sends."""
    bearer = [] if key is None else [("authorization", f"Bearer {key}")]
    return bearer if tenant is None else [*bearer, ("x-tenant-id", tenant)]


def methods() -> Iterator[MethodDescriptor]:
    """Every method that the server has, but for health, reflection and channelz."""
    for name, _, _ in SERVICES:
        yield from descriptor_pool.Default().FindServiceByName(name).methods


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


async def send(service: Service, path: str, request: bytes, metadata: Sequence[Any]) -> None:
    """One request in bytes to a method of whichever kind; its first answer."""
    start: Any = service.channel.stream_stream(path)
    await start(iter([request]), metadata=metadata, timeout=20).read()


async def refused(service: Service, path: str, request: bytes, metadata: Sequence[Any]) -> Refusal:
    """Like `send`, for what must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(service, path, request, metadata)
    return refusal_of(caught.value)
