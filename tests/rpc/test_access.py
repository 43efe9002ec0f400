"""What each scope allows, method by method, and whose data: tables made from the descriptors."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import penchant.v1
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine.access import SCOPES, implied
from server.method_access import FOREIGN_SCOPES, OPEN_SERVICES, declared_scope
from server.wiring import SERVICES
from tests.rpc.conftest import Refusal, Service
from tests.rpc.keys import GARBAGE, make_key, metadata_of, methods, path_of, refused, send
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHANNELZ = "/grpc.channelz.v1.Channelz/GetServers"


def scope_of(method: MethodDescriptor) -> str | None:
    return declared_scope(method.containing_service.full_name, method.name)


def every_method_of_ours() -> Iterator[MethodDescriptor]:
    for module in pkgutil.iter_modules(penchant.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"penchant.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


def tenant_paths(asked: Descriptor) -> list[tuple[str, ...]]:
    """Where a request names a tenant, one message deep."""
    return [
        (field.name,) if field.name == "tenant_id" else (field.name, "tenant_id")
        for field in asked.fields
        if field.name == "tenant_id"
        or (field.message_type and "tenant_id" in field.message_type.fields_by_name)
    ]


def naming(method: MethodDescriptor, tenant_id: str) -> bytes:
    """A request that names a tenant wherever it can."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    for path in tenant_paths(method.input_type):
        target = request
        for name in path[:-1]:
            target = getattr(target, name)
        setattr(target, path[-1], tenant_id)
    return bytes(request.SerializeToString())


async def test_every_method_declares_a_known_scope() -> None:
    found = {method.full_name: scope_of(method) for method in every_method_of_ours()}
    assert len(found) > 50
    assert {name: scope for name, scope in found.items() if scope not in SCOPES} == {}


async def test_every_service_is_ours_or_has_a_rule() -> None:
    foreign = {name for name, _, _ in SERVICES if not name.startswith("penchant.v1.")}
    assert foreign <= FOREIGN_SCOPES.keys()
    assert OPEN_SERVICES & FOREIGN_SCOPES.keys() == set()


@pytest.mark.parametrize("owner", ["", "a"], ids=["operator's key", "tenant's key"])
async def test_each_scope_allows_its_methods_and_no_other(standing: Service, owner: str) -> None:
    """Bytes that do not parse come past the edge exactly where the method is allowed."""
    wrong = []
    for scope in sorted(SCOPES - {"operator"} if owner else SCOPES):
        metadata = metadata_of(await make_key(standing, owner, scope), "a")
        allowed = implied([scope], of_tenant=bool(owner))
        for method in methods():
            refusal = await refused(standing, path_of(method), GARBAGE, metadata)
            needed = scope_of(method)
            expected = (
                ("INVALID_ARGUMENT", "MALFORMED_REQUEST", {})
                if needed in allowed
                else ("PERMISSION_DENIED", "SCOPE_MISSING", {"scope": needed})
            )
            if (refusal.code, refusal.reason, refusal.metadata) != expected:
                wrong.append((scope, method.full_name, refusal))
    assert wrong == []


async def test_no_method_answers_without_a_key(standing: Service) -> None:
    await send(standing, path_of(next(methods())), b"", metadata_of(await any_key(standing), "a"))
    for path in (CHANNELZ, *map(path_of, methods())):
        for key, reason in ((None, "UNAUTHENTICATED"), ("pk_x", "INVALID_CREDENTIALS")):
            refusal = await refused(standing, path, GARBAGE, metadata_of(key, "a"))
            assert (path, refusal.code, refusal.reason) == (path, "UNAUTHENTICATED", reason)


async def any_key(service: Service) -> str:
    return await make_key(service, "", "operator")


async def test_health_and_reflection_need_no_key(standing: Service) -> None:
    await any_key(standing)
    stub: Any = health_pb2_grpc.HealthStub(standing.channel)

    async def serving() -> bool:
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    await until(serving)
    for version in ("v1", "v1alpha"):
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        await send(standing, path, b"\x3a\x00", ())


async def test_channelz_is_for_the_operator(standing: Service) -> None:
    request = channelz_pb2.GetServersRequest().SerializeToString()
    key = await make_key(standing, "", "tenant:admin", "models:admin")
    refusal = await refused(standing, CHANNELZ, request, metadata_of(key))
    assert (refusal.reason, refusal.metadata) == ("SCOPE_MISSING", {"scope": "operator"})
    await send(standing, CHANNELZ, request, metadata_of(await any_key(standing)))


async def test_tenants_key_is_for_its_tenant_without_naming_it(standing: Service) -> None:
    for tenant in ("b", "c"):
        await standing.deps.administration.create_tenant(draft(tenant))
    request = b""
    path = "/penchant.v1.EntityService/ListEntities"
    await send(standing, path, request, metadata_of(await make_key(standing, "a", "tenant:admin")))
    refusal = await refused(standing, path, request, metadata_of(await any_key(standing)))
    assert refusal.reason == "TENANT_REQUIRED"


def draft(tenant_id: str) -> Any:
    from engine.administration import TenantDraft

    return TenantDraft(tenant_id)


async def test_other_tenants_are_refused_alike_whether_they_exist(standing: Service) -> None:
    """In the metadata and in the request, of every method that a tenant's key may call."""
    await standing.deps.administration.create_tenant(draft("exists"))
    key = await make_key(standing, "a", "tenant:admin")
    wrong = []
    mismatch = "The key or token is bound to another tenant."
    expected = Refusal("PERMISSION_DENIED", "TENANT_MISMATCH", message=mismatch)
    named = 0
    for method in methods():
        if scope_of(method) == "operator":
            continue
        for other in ("exists", "nobody", "No Tenant!", ""):
            found = [
                await refused(standing, path_of(method), b"", metadata_of(key, other)),
            ]
            if tenant_paths(method.input_type):
                named += 1
                request = naming(method, other)
                found.append(await refused(standing, path_of(method), request, metadata_of(key)))
            wrong += [(method.full_name, other, one) for one in found if one != expected]
    assert wrong == []
    assert named > 40


async def test_tenants_key_may_name_its_own_tenant(standing: Service) -> None:
    key = await make_key(standing, "a", "tenant:admin")
    for service, name in (("AdminService", "GetTenant"), ("ApiKeyService", "ListApiKeys")):
        (method,) = [m for m in methods() if m.full_name == f"penchant.v1.{service}.{name}"]
        await send(standing, path_of(method), naming(method, "a"), metadata_of(key, "a"))
