"""AdminService: what is refused, and how."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from penchant.v1 import admin_pb2 as pb
from penchant.v1.common_pb2 import EntityRef

from tests.rpc.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAN, INFINITY = float("nan"), float("inf")
HOUR, DAY = 3_600, 86_400


def create(**fields) -> pb.CreateTenantRequest:
    return pb.CreateTenantRequest(tenant=pb.Tenant(**{"tenant_id": "t", **fields}))


def settings(**fields) -> pb.CreateTenantRequest:
    return create(settings=pb.TenantSettings(**fields))


def update(*paths: str, **fields) -> pb.UpdateTenantRequest:
    request = pb.UpdateTenantRequest(tenant=pb.Tenant(tenant_id="a", **fields))
    request.update_mask.CopyFrom(FieldMask(paths=paths))
    return request


def kind(
    name: str = "like", weight: float = 1, tenant_id: str = "a"
) -> pb.SetInteractionTypeRequest:
    made = pb.InteractionType(interaction_type=name, weight=weight)
    return pb.SetInteractionTypeRequest(tenant_id=tenant_id, interaction_type=made)


REFUSED = {
    "create nothing": ("CreateTenant", pb.CreateTenantRequest(), "tenant.tenant_id"),
    "create capitals": ("CreateTenant", create(tenant_id="A"), "tenant.tenant_id"),
    "create long": ("CreateTenant", create(tenant_id="a" * 64), "tenant.tenant_id"),
    "create newline": ("CreateTenant", create(tenant_id="a\n"), "tenant.tenant_id"),
    "display name long": ("CreateTenant", create(display_name="é" * 128), "tenant.display_name"),
    "display name NUL": ("CreateTenant", create(display_name="\0"), "tenant.display_name"),
    "dimension 1": ("CreateTenant", create(dimension=1), "tenant.dimension"),
    "dimension 1537": ("CreateTenant", create(dimension=1537), "tenant.dimension"),
    "dimension negative": ("CreateTenant", create(dimension=-512), "tenant.dimension"),
    "half-life short": (
        "CreateTenant",
        create(profile_half_life=Duration(seconds=HOUR - 1)),
        "tenant.profile_half_life",
    ),
    "half-life long": (
        "CreateTenant",
        create(profile_half_life=Duration(seconds=3_650 * DAY, nanos=1_000)),
        "tenant.profile_half_life",
    ),
    "half-life nought": (
        "CreateTenant",
        create(profile_half_life=Duration()),
        "tenant.profile_half_life",
    ),
    "half-life out of range": (
        "CreateTenant",
        create(profile_half_life=Duration(seconds=2**62, nanos=-(2**31))),
        "tenant.profile_half_life",
    ),
    "window short": (
        "CreateTenant",
        settings(trending_window=Duration(seconds=HOUR - 1)),
        "tenant.settings.trending_window",
    ),
    "window long": (
        "CreateTenant",
        settings(trending_window=Duration(seconds=366 * DAY)),
        "tenant.settings.trending_window",
    ),
    "trending half-life": (
        "CreateTenant",
        settings(trending_half_life=Duration(seconds=-60)),
        "tenant.settings.trending_half_life",
    ),
    "unknown_entities": (
        "CreateTenant",
        settings(unknown_entities=7),
        "tenant.settings.unknown_entities",
    ),
    "unknown source": (
        "CreateTenant",
        settings(source_weights={"magic": 1}),
        "tenant.settings.source_weights",
    ),
    "weight negative": (
        "CreateTenant",
        settings(source_weights={"content": -1}),
        "tenant.settings.source_weights",
    ),
    "weight NaN": (
        "CreateTenant",
        settings(source_weights={"content": NAN}),
        "tenant.settings.source_weights",
    ),
    "weight infinite": (
        "CreateTenant",
        settings(source_weights={"content": INFINITY}),
        "tenant.settings.source_weights",
    ),
    "segment attribute": (
        "CreateTenant",
        settings(segment_attribute="a\0"),
        "tenant.settings.segment_attribute",
    ),
    "get nobody": ("GetTenant", pb.GetTenantRequest(), "tenant_id"),
    "list negative": ("ListTenants", pb.ListTenantsRequest(page_size=-1), "page_size"),
    "list token": ("ListTenants", pb.ListTenantsRequest(page_token="?"), "page_token"),
    "update nobody": ("UpdateTenant", pb.UpdateTenantRequest(), "tenant.tenant_id"),
    "update dimension": ("UpdateTenant", update("dimension"), "update_mask"),
    "update id": ("UpdateTenant", update("tenant_id"), "update_mask"),
    "update output": ("UpdateTenant", update("placement"), "update_mask"),
    "update unknown setting": ("UpdateTenant", update("settings.x"), "update_mask"),
    "update nonsense": ("UpdateTenant", update("display_name", "\0" * 300), "update_mask"),
    "update star": ("UpdateTenant", update("*"), "update_mask"),
    "update setting": (
        "UpdateTenant",
        update(
            "settings.trending_window",
            settings=pb.TenantSettings(trending_window=Duration(seconds=1)),
        ),
        "tenant.settings.trending_window",
    ),
    "delete nobody": ("DeleteTenant", pb.DeleteTenantRequest(), "tenant_id"),
    "place nobody": ("PlaceTenant", pb.PlaceTenantRequest(), "tenant_id"),
    "type of nobody": ("SetInteractionType", kind(tenant_id=""), "tenant_id"),
    "type without name": ("SetInteractionType", kind(""), "interaction_type.interaction_type"),
    "type of 64 bytes": (
        "SetInteractionType",
        kind("é" * 32),
        "interaction_type.interaction_type",
    ),
    "type control": ("SetInteractionType", kind("a\x7f"), "interaction_type.interaction_type"),
    "type weight NaN": ("SetInteractionType", kind(weight=NAN), "interaction_type.weight"),
    "type weight large": ("SetInteractionType", kind(weight=-1e6 - 1), "interaction_type.weight"),
    "list types of nobody": (
        "ListInteractionTypes",
        pb.ListInteractionTypesRequest(),
        "tenant_id",
    ),
    "delete type of nobody": (
        "DeleteInteractionType",
        pb.DeleteInteractionTypeRequest(interaction_type="like"),
        "tenant_id",
    ),
    "delete no type": (
        "DeleteInteractionType",
        pb.DeleteInteractionTypeRequest(tenant_id="a"),
        "interaction_type",
    ),
    "invalidate of nobody": ("InvalidateCache", pb.InvalidateCacheRequest(all=True), "tenant_id"),
    "invalidate nothing": ("InvalidateCache", pb.InvalidateCacheRequest(tenant_id="a"), "target"),
    "invalidate not all": (
        "InvalidateCache",
        pb.InvalidateCacheRequest(tenant_id="a", all=False),
        "all",
    ),
    "invalidate no user": (
        "InvalidateCache",
        pb.InvalidateCacheRequest(tenant_id="a", user_id=""),
        "user_id",
    ),
    "invalidate no pattern": (
        "InvalidateCache",
        pb.InvalidateCacheRequest(tenant_id="a", pattern=""),
        "pattern",
    ),
    "invalidate no entity": (
        "InvalidateCache",
        pb.InvalidateCacheRequest(tenant_id="a", entity=EntityRef()),
        "entity.entity_type",
    ),
    "index of nobody": ("GetIndexStats", pb.GetIndexStatsRequest(), "tenant_id"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_admin_refuses(standing: Service, case: str):
    method, request, field = REFUSED[case]
    refusal = await standing.refused(method, request, None)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


UNKNOWN = {
    "GetTenant": pb.GetTenantRequest(tenant_id="x"),
    "UpdateTenant": pb.UpdateTenantRequest(tenant=pb.Tenant(tenant_id="x", display_name="n")),
    "DeleteTenant": pb.DeleteTenantRequest(tenant_id="x"),
    "PlaceTenant": pb.PlaceTenantRequest(tenant_id="x"),
    "SetInteractionType": kind(tenant_id="x"),
    "ListInteractionTypes": pb.ListInteractionTypesRequest(tenant_id="x"),
    "DeleteInteractionType": pb.DeleteInteractionTypeRequest(
        tenant_id="x", interaction_type="like"
    ),
    "InvalidateCache": pb.InvalidateCacheRequest(tenant_id="x", all=True),
    "GetIndexStats": pb.GetIndexStatsRequest(tenant_id="x"),
}


@pytest.mark.parametrize("method", UNKNOWN)
async def test_admin_of_unknown_tenant(standing: Service, method: str):
    refusal = await standing.refused(method, UNKNOWN[method], None)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")


async def test_admin_list_token_of_another_request_is_refused(standing: Service):
    await standing.make_tenant("b")
    token = (
        await standing.call("ListTenants", pb.ListTenantsRequest(page_size=1), None)
    ).next_page_token
    assert token
    from penchant.v1 import entity_pb2

    refusal = await standing.refused(
        "ListEntities", entity_pb2.ListEntitiesRequest(page_token=token)
    )
    assert refusal.reason == "PAGE_TOKEN_MISMATCH"
