"""The audit: which calls leave an event, what it says, and what it never says."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pool
from penchant.v1 import admin_pb2 as pb
from penchant.v1 import api_key_pb2, api_key_pb2_grpc, interaction_pb2, model_pb2
from structlog.testing import capture_logs

from engine.access import ANONYMOUS
from server.audit import MADE, TARGETS, AuditRule, audit_rule
from server.method_access import declared_scope
from server.wiring import SERVICES
from storage.api_keys import KeyDraft
from storage.database import SERVICE_ROLE
from tests.rpc.conftest import Service, book
from tests.waiting import until

READS = ("Get", "List", "Watch", "Compare", "Verify", "Wait")
ADMIN = {"tenant:admin", "operator", "models:admin"}
CREATE_TENANT = "/penchant.v1.AdminService/CreateTenant"


async def events(service: Service, *, key: str = "", **fields: Any) -> list[pb.AuditEvent]:
    metadata = {"authorization": f"Bearer {key}"} if key else {}
    request = pb.ListAuditEventsRequest(**fields)
    return list((await service.call("ListAuditEvents", request, None, **metadata)).events)


async def told(service: Service, **fields: Any) -> list[tuple[str, str, str, str]]:
    """The events' methods, tenants, targets and codes, the newest first."""
    found = await events(service, **fields)
    return [(e.method.rpartition("/")[2], e.tenant_id, e.target, e.code) for e in found]


async def key_for(service: Service, tenant_id: str, *scopes: str) -> tuple[str, str]:
    """A new key's id and text."""
    draft = KeyDraft(tenant_id, "", scopes, None)
    key, text = await service.deps.keys.make(draft, ANONYMOUS)
    return key.key_id, text


@asynccontextmanager
async def owner(service: Service) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the schema's owner."""
    assert service.settings.database.url is not None
    connection = await asyncpg.connect(service.settings.database.url.get_secret_value())
    try:
        yield connection
    finally:
        await connection.close()


def methods() -> list[tuple[str, str]]:
    pool = descriptor_pool.Default()
    return [
        (name, method.name)
        for name, _, _ in SERVICES
        for method in pool.FindServiceByName(name).methods
    ]


def test_every_changing_admin_method_has_its_target() -> None:
    """A new method needs a line, if an empty one; its fields must be those of its messages."""
    changing = {
        f"{service}/{method}"
        for service, method in methods()
        if declared_scope(service, method) in ADMIN and not method.startswith(READS)
    }
    of_users = {f"penchant.v1.InteractionService/{m}" for m in ("DeleteInteractions", "MergeUsers")}
    assert set(TARGETS) == changing | of_users
    pool = descriptor_pool.Default()
    for name in TARGETS:
        method = pool.FindMethodByName(name.replace("/", "."))
        wanted = [(method.input_type, path) for path in TARGETS[name]]
        wanted += [(method.output_type, path) for path in MADE.get(name, ())]
        for of, path in wanted:
            message = of
            for part in path.split("."):
                assert part in message.fields_by_name, f"{name}: {path}"
                message = message.fields_by_name[part].message_type


def test_reads_leave_their_refusals_and_calls_of_users_nothing() -> None:
    rules = {f"{service}/{method}": audit_rule(service, method) for service, method in methods()}
    for name, rule in rules.items():
        if declared_scope(*name.split("/")) in ADMIN and name not in TARGETS:
            assert rule == AuditRule(refusals_only=True), name
        elif name not in TARGETS:
            assert rule is None, name
    channelz = audit_rule("grpc.channelz.v1.Channelz", "GetServers")
    assert channelz == AuditRule(refusals_only=True)


async def test_event_says_who_what_when_and_from_where(service: Service) -> None:
    tenant = pb.CreateTenantRequest(tenant=pb.Tenant(tenant_id="b"))
    await service.call("CreateTenant", tenant, None, x_request_id="r-7")
    (made, *_) = await events(service)
    assert (made.actor, made.method, made.tenant_id) == ("anonymous", CREATE_TENANT, "b")
    assert (made.target, made.code, made.request_id) == ("", "OK", "r-7")
    assert made.peer.startswith("ipv4:127.0.0.1:")
    stored = (await service.call("GetTenant", pb.GetTenantRequest(tenant_id="b"), None)).tenant
    assert (
        0 <= (made.occurred_at.ToDatetime() - stored.created_at.ToDatetime()).total_seconds() < 60
    )


async def test_targets_are_named_and_users_hashed(service: Service) -> None:
    await service.did("Zacharias-Quux", "b00")
    await service.call(
        "SetInteractionType",
        pb.SetInteractionTypeRequest(
            tenant_id="a", interaction_type=pb.InteractionType(interaction_type="rent", weight=2)
        ),
    )
    await service.call(
        "CreateModel", model_pb2.CreateModelRequest(model={"name": "m1", "algorithm": "als"})
    )
    for request in (
        interaction_pb2.DeleteInteractionsRequest(user_id="Zacharias-Quux"),
        interaction_pb2.DeleteInteractionsRequest(session_id="Zacharias-Quux", entity=book()),
        interaction_pb2.DeleteInteractionsRequest(
            entity={"entity_type": "user", "entity_id": "Zq"}
        ),
    ):
        await service.call("DeleteInteractions", request)
    await service.call(
        "MergeUsers",
        interaction_pb2.MergeUsersRequest(source_session_id="s", target_user_id="Zacharias-Quux"),
    )
    await service.call(
        "InvalidateCache", pb.InvalidateCacheRequest(tenant_id="a", user_id="Zacharias-Quux")
    )
    hashed = service.deps.audit.user("a", "Zacharias-Quux")
    session = service.deps.audit.user("a", "session:Zacharias-Quux")
    other = service.deps.audit.user("a", "session:s")
    assert re.fullmatch(r"user:[0-9a-f]{32}", hashed)
    assert await told(service, page_size=7) == [
        ("InvalidateCache", "a", hashed, "OK"),
        ("MergeUsers", "a", f"{other} {hashed}", "OK"),
        ("DeleteInteractions", "a", f"user/{service.deps.audit.user('a', 'Zq')}", "OK"),
        ("DeleteInteractions", "a", f"{session} book/b00", "OK"),
        ("DeleteInteractions", "a", hashed, "OK"),
        ("CreateModel", "a", "m1", "OK"),
        ("SetInteractionType", "a", "rent", "OK"),
    ]
    assert hashed != service.deps.audit.user("b", "Zacharias-Quux")


async def test_calls_that_fail_are_told_and_reads_are_not(service: Service) -> None:
    await service.refused("DeleteTenant", pb.DeleteTenantRequest(tenant_id="nobody"), None)
    await service.refused("GetTenant", pb.GetTenantRequest(tenant_id="nobody"), None)
    await service.recommend("ada")
    await service.did("ada", "b00")
    (newest, first) = await told(service)
    assert newest == ("DeleteTenant", "nobody", "", "NOT_FOUND")
    assert first == ("CreateTenant", "a", "", "OK")


async def test_keys_are_named_by_their_ids_alone(service: Service) -> None:
    own_id, own = await key_for(service, "", "operator")
    stub: Any = api_key_pb2_grpc.ApiKeyServiceStub(service.channel)
    metadata = (("authorization", f"Bearer {own}"),)
    wanted = api_key_pb2.ApiKey(tenant_id="a", scopes=["recommend:read"])
    request = api_key_pb2.CreateApiKeyRequest(api_key=wanted)
    made = await stub.CreateApiKey(request, metadata=metadata, timeout=20)
    key_id = made.api_key.key_id
    request = api_key_pb2.RotateApiKeyRequest(tenant_id="a", key_id=key_id)
    turned = await stub.RotateApiKey(request, metadata=metadata, timeout=20)
    mistaken = api_key_pb2.RevokeApiKeyRequest(tenant_id="a", key_id=turned.secret)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.RevokeApiKey(mistaken, metadata=metadata, timeout=20)
    found = await events(service, key=own)
    assert [(e.actor, e.tenant_id, e.target, e.code) for e in found[:3]] == [
        (f"key:{own_id}", "a", "", "NOT_FOUND"),
        (f"key:{own_id}", "a", f"{key_id} {turned.api_key.key_id}", "OK"),
        (f"key:{own_id}", "a", key_id, "OK"),
    ]
    for secret in (own, made.secret, turned.secret):
        assert secret not in str(found)


async def test_refusals_are_told_of_reads_too(service: Service) -> None:
    _, operator = await key_for(service, "", "operator")
    reader_id, reader = await key_for(service, "a", "recommend:read")
    admin_id, admin = await key_for(service, "a", "tenant:admin")

    async def refused(key: str, method: str, request: Any) -> None:
        metadata = {"authorization": f"Bearer {key}"} if key else {}
        with pytest.raises(grpc.aio.AioRpcError):
            await service.call(method, request, None, **metadata)

    # Which keys there are is news to the worker until a key is used.
    await events(service, key=operator)
    await refused("", "DeleteTenant", pb.DeleteTenantRequest(tenant_id="a"))
    await refused(reader, "ListTenants", pb.ListTenantsRequest())
    await refused(admin, "UpdateTenant", pb.UpdateTenantRequest(tenant=pb.Tenant(tenant_id="b")))
    await refused(reader, "ListInteractions", interaction_pb2.ListInteractionsRequest(user_id="u"))
    found = await events(service, key=operator)
    assert [(e.actor, e.method.rpartition("/")[2], e.tenant_id, e.code) for e in found[:3]] == [
        (f"key:{admin_id}", "UpdateTenant", "b", "PERMISSION_DENIED"),
        (f"key:{reader_id}", "ListTenants", "a", "PERMISSION_DENIED"),
        ("anonymous", "DeleteTenant", "", "UNAUTHENTICATED"),
    ]


async def test_events_page_and_narrow_to_a_tenant(service: Service) -> None:
    await service.make_tenant("b")
    for weight in range(4):
        kind = pb.InteractionType(interaction_type=f"t{weight}", weight=weight)
        for tenant in ("a", "b"):
            request = pb.SetInteractionTypeRequest(tenant_id=tenant, interaction_type=kind)
            await service.call("SetInteractionType", request, None)
    request = pb.ListAuditEventsRequest(tenant_id="b", page_size=3)
    first = await service.call("ListAuditEvents", request, None)
    request.page_token = first.next_page_token
    second = await service.call("ListAuditEvents", request, None)
    assert [e.target for e in [*first.events, *second.events]] == ["t3", "t2", "t1", "t0", ""]
    assert second.next_page_token == ""
    other = pb.ListAuditEventsRequest(page_token=first.next_page_token)
    refusal = await service.refused("ListAuditEvents", other, None)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_MISMATCH")


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"page_size": -1}, "page_size"), ({"tenant_id": "No such"}, "tenant_id")],
)
async def test_wrong_requests_are_refused(
    service: Service, fields: dict[str, Any], field: str
) -> None:
    refusal = await service.refused("ListAuditEvents", pb.ListAuditEventsRequest(**fields), None)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_erased_tenant_keeps_its_events(service: Service) -> None:
    await service.call("DeleteTenant", pb.DeleteTenantRequest(tenant_id="a"), None)
    await service.run_jobs()
    assert await told(service, tenant_id="a") == [
        ("DeleteTenant", "a", "", "OK"),
        ("CreateTenant", "a", "", "OK"),
    ]


async def test_event_that_cannot_be_written_does_not_change_the_outcome(service: Service) -> None:
    async with owner(service) as connection:
        await connection.execute(f"REVOKE INSERT ON audit_events FROM {SERVICE_ROLE}")
    with capture_logs() as lines:
        await service.make_tenant("b")
    (line,) = [line for line in lines if line["event"] == "audit event not written"]
    assert (line["log_level"], line["method"]) == ("error", CREATE_TENANT)
    assert (line["actor"], line["tenant_id"], line["code"]) == ("anonymous", "b", "OK")
    stored = await service.call("GetTenant", pb.GetTenantRequest(tenant_id="b"), None)
    assert stored.tenant.tenant_id == "b"
    assert await told(service) == [("CreateTenant", "a", "", "OK")]


async def test_call_that_its_caller_gives_up_is_told_all_the_same(service: Service) -> None:
    async with owner(service) as connection, connection.transaction():
        await connection.execute("SELECT FROM tenants WHERE tenant_id = 'a' FOR UPDATE")
        call = service.admin.DeleteTenant(pb.DeleteTenantRequest(tenant_id="a"))
        await until(lambda: connection.fetch("SELECT FROM pg_locks WHERE NOT granted"))
        call.cancel()

        async def both() -> list[Any]:
            found = await told(service)
            return found if len(found) == 2 else []

        found = await until(both)
    assert found[0] == ("DeleteTenant", "a", "", "CANCELLED")


async def test_flood_of_refusals_is_bounded(service: Service) -> None:
    _, operator = await key_for(service, "", "operator")
    await events(service, key=operator)

    async def try_it() -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await service.call("ListTenants", pb.ListTenantsRequest(), None)

    for _ in range(20):
        await asyncio.gather(*(try_it() for _ in range(20)))
    found = await events(service, key=operator, page_size=1000)
    refusals = sum(event.code == "UNAUTHENTICATED" for event in found)
    assert 100 <= refusals < 400
