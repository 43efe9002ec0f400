"""AdminService: tenants, interaction types, migrations, statistics and cache invalidation."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from penchant.v1 import admin_pb2 as pb
from penchant.v1 import entity_pb2, interaction_pb2, recommendation_pb2
from penchant.v1.common_pb2 import EntityRef

from tests.rpc.conftest import Service, ids

HOUR, DAY = 3_600, 86_400


def days(number: float) -> Duration:
    return Duration(seconds=int(number * DAY))


async def tenant_of(service: Service, tenant_id: str = "a") -> pb.Tenant:
    return (await service.call("GetTenant", pb.GetTenantRequest(tenant_id=tenant_id), None)).tenant


async def update(service: Service, tenant: pb.Tenant, mask: list[str] | None = None) -> pb.Tenant:
    request = pb.UpdateTenantRequest(tenant=tenant)
    if mask is not None:
        request.update_mask.CopyFrom(FieldMask(paths=mask))
    return (await service.call("UpdateTenant", request, None)).tenant


async def test_tenant_has_defaults(service: Service):
    tenant = await tenant_of(service)
    assert (tenant.tenant_id, tenant.dimension, tenant.placement) == ("a", 512, 0)
    assert tenant.profile_half_life == days(30)
    assert tenant.state == pb.TENANT_STATE_ACTIVE
    assert tenant.settings == pb.TenantSettings(
        unknown_entities=pb.UNKNOWN_ENTITIES_ACCEPT,
        trending_window=days(7),
        trending_half_life=days(2),
    )
    assert tenant.created_at == tenant.updated_at


async def test_tenant_keeps_what_it_is_made_with(service: Service):
    wanted = pb.Tenant(
        tenant_id="a-b_9",
        display_name="Bücher & Co",
        dimension=2,
        profile_half_life=Duration(seconds=HOUR, nanos=500_000_000),
        settings=pb.TenantSettings(
            unknown_entities=pb.UNKNOWN_ENTITIES_REFUSE,
            trending_window=days(365),
            trending_half_life=Duration(seconds=60),
            source_weights={"content": 0.5, "trending": 0},
            segment_attribute="country",
        ),
    )
    request = pb.CreateTenantRequest(tenant=wanted)
    made = (await service.call("CreateTenant", request, None)).tenant
    assert made == await tenant_of(service, "a-b_9")
    for name in ("placement", "state", "created_at", "updated_at"):
        made.ClearField(name)
    assert made == wanted
    refusal = await service.refused("CreateTenant", request, None)
    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "TENANT_EXISTS")


async def test_tenant_of_two_dimensions_recommends(service: Service):
    await service.make_tenant("small", dimension=2)
    for name, vector in (("x", [1, 0]), ("y", [0, 1]), ("near-x", [0.9, 0.1])):
        entity = entity_pb2.Entity(
            entity=EntityRef(entity_type="book", entity_id=name), feature_vector=vector
        )
        await service.call("UpsertEntity", entity_pb2.UpsertEntityRequest(entity=entity), "small")
    await service.did("ada", "x", tenant="small")
    assert ids(await service.recommend("ada", tenant="small"))[0] == "near-x"


async def test_tenants_are_listed_by_page(service: Service):
    for tenant_id in ("zeta", "b", "a-1", "a_1", "a0"):
        await service.make_tenant(tenant_id)
    seen: list[str] = []
    request = pb.ListTenantsRequest(page_size=4)
    while True:
        page = await service.call("ListTenants", request, None)
        seen += [tenant.tenant_id for tenant in page.tenants]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ["a", "a-1", "a0", "a_1", "b", "zeta"]


BEFORE = pb.Tenant(
    tenant_id="x",
    display_name="old",
    settings=pb.TenantSettings(trending_window=days(1), source_weights={"content": 1}),
)
UPDATES = {
    "nothing named, name filled": (pb.Tenant(display_name="new"), None, "new", 1, {"content": 1}),
    "nothing named, setting filled": (
        pb.Tenant(settings=pb.TenantSettings(trending_window=days(2))),
        None,
        "old",
        2,
        {"content": 1},
    ),
    "empty mask counts as none": (pb.Tenant(display_name="new"), [], "new", 1, {"content": 1}),
    "name named": (pb.Tenant(), ["display_name"], "", 1, {"content": 1}),
    "settings replaced": (
        pb.Tenant(settings=pb.TenantSettings(source_weights={"context": 2})),
        ["settings"],
        "old",
        7,
        {"context": 2},
    ),
    "one setting reset": (pb.Tenant(), ["settings.source_weights"], "old", 1, {}),
    "filled but not named": (
        pb.Tenant(display_name="new", settings=pb.TenantSettings(trending_window=days(3))),
        ["settings.trending_window"],
        "old",
        3,
        {"content": 1},
    ),
    "same dimension": (
        pb.Tenant(display_name="new", dimension=512),
        None,
        "new",
        1,
        {"content": 1},
    ),
}


@pytest.mark.parametrize("case", UPDATES, ids=str)
@pytest.mark.asyncio(loop_scope="module")
async def test_update_changes_what_is_named(standing: Service, case: str):
    given, mask, name, window, weights = UPDATES[case]
    tenant_id = f"u{list(UPDATES).index(case)}"
    made = pb.Tenant()
    made.CopyFrom(BEFORE)
    made.tenant_id = tenant_id
    await standing.call("CreateTenant", pb.CreateTenantRequest(tenant=made), None)
    changed = pb.Tenant()
    changed.CopyFrom(given)
    changed.tenant_id = tenant_id
    tenant = await update(standing, changed, mask)
    assert tenant == await tenant_of(standing, tenant_id)
    assert (
        tenant.display_name,
        tenant.settings.trending_window,
        tenant.settings.source_weights,
    ) == (
        name,
        days(window),
        weights,
    )


@pytest.mark.parametrize(
    "changed",
    [{"dimension": 256}, {"dimension": -1}, {"profile_half_life": days(31)}],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.asyncio(loop_scope="module")
async def test_update_of_what_is_fixed_is_refused(standing: Service, changed: dict):
    request = pb.UpdateTenantRequest(tenant=pb.Tenant(tenant_id="a", **changed))
    refusal = await standing.refused("UpdateTenant", request)
    assert (refusal.code, list(refusal.fields)) == (
        "FAILED_PRECONDITION",
        [f"tenant.{next(iter(changed))}"],
    )


async def test_deleted_tenant_is_gone_for_everybody_and_its_name_for_good(library: Service):
    await library.did("ada", "b00")
    await library.recommend("ada")
    await library.call("DeleteTenant", pb.DeleteTenantRequest(tenant_id="a"), None)
    book = EntityRef(entity_type="book", entity_id="b00")
    ingest = interaction_pb2.IngestInteractionRequest()
    ingest.interaction.user_id, ingest.interaction.interaction_type = "ada", "like"
    ingest.interaction.entity.CopyFrom(book)
    for method, request in (
        ("Recommend", recommendation_pb2.RecommendRequest(user_id="ada")),
        ("Rerank", recommendation_pb2.RerankRequest(entities=[book])),
        ("SimilarUsers", recommendation_pb2.SimilarUsersRequest(user_id="ada")),
        ("SimilarEntities", recommendation_pb2.SimilarEntitiesRequest(entity=book)),
        ("RecommendUsers", recommendation_pb2.RecommendUsersRequest(entity=book)),
        ("Trending", recommendation_pb2.TrendingRequest()),
        ("GetEntity", entity_pb2.GetEntityRequest(entity=book)),
        ("ListEntities", entity_pb2.ListEntitiesRequest()),
        ("DeleteEntity", entity_pb2.DeleteEntityRequest(entity=book)),
        ("IngestInteraction", ingest),
        ("ListInteractions", interaction_pb2.ListInteractionsRequest(user_id="ada")),
        ("GetTenant", pb.GetTenantRequest(tenant_id="a")),
        ("DeleteTenant", pb.DeleteTenantRequest(tenant_id="a")),
        ("GetIndexStats", pb.GetIndexStatsRequest(tenant_id="a")),
    ):
        refusal = await library.refused(method, request)
        assert (method, refusal.code, refusal.reason) == (method, "NOT_FOUND", "TENANT_NOT_FOUND")
    again = pb.CreateTenantRequest(tenant=pb.Tenant(tenant_id="a"))
    for _ in range(2):
        refusal = await library.refused("CreateTenant", again)
        assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "TENANT_EXISTS")
        await library.run_jobs()


async def test_interaction_types_of_a_new_tenant(service: Service):
    request = pb.ListInteractionTypesRequest(tenant_id="a")
    listed = (await service.call("ListInteractionTypes", request, None)).interaction_types
    assert [(t.interaction_type, t.weight, t.marks_seen) for t in listed] == [
        ("add_to_cart", 3, True),
        ("impression", 0, False),
        ("like", 2, True),
        ("purchase", 5, True),
        ("view", 1, True),
    ]


async def test_interaction_types_are_set_and_deleted(library: Service):
    async def set_type(name: str, weight: float, **fields) -> pb.InteractionType:
        request = pb.SetInteractionTypeRequest(
            tenant_id="a",
            interaction_type=pb.InteractionType(interaction_type=name, weight=weight, **fields),
        )
        return (await library.call("SetInteractionType", request, None)).interaction_type

    made = await set_type("dislike", -4)
    assert (made.weight, made.marks_seen) == (-4, True)
    changed = await set_type("dislike", -3, marks_seen=False)
    assert (changed.weight, changed.marks_seen) == (-3, False)
    assert not (await set_type("dislike", -3)).marks_seen  # absent: as it was
    await library.did("ada", "b00")
    await library.did("ada", "b01", "dislike")
    answer = await library.recommend("ada", page_size=60)
    assert "b01" in ids(answer)
    assert {item.attributes["genres"][0] for item in answer.items[:10]} == {"sf"}
    request = pb.DeleteInteractionTypeRequest(tenant_id="a", interaction_type="dislike")
    await library.call("DeleteInteractionType", request, None)
    refusal = await library.refused("DeleteInteractionType", request)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "NOT_FOUND")


async def test_migrations_are_told_and_none_is_pending(service: Service):
    listed = (await service.call("ListMigrations", pb.ListMigrationsRequest(), None)).migrations
    assert [m.version for m in listed] == sorted(m.version for m in listed)
    assert all(m.success and m.description and m.installed_on.seconds for m in listed)
    version = await service.call("GetMigrationVersion", pb.GetMigrationVersionRequest(), None)
    assert (version.version, version.pending_count) == (listed[-1].version, 0)
    applied = await service.call("RunMigrations", pb.RunMigrationsRequest(), None)
    assert list(applied.applied_versions) == []


async def test_pool_and_cache_statistics(library: Service):
    pool = await library.call("GetPoolStats", pb.GetPoolStatsRequest(), None)
    assert 1 <= pool.size <= 8
    assert 0 <= pool.idle <= pool.size
    before = await library.call("GetCacheStats", pb.GetCacheStatsRequest(), None)
    first = await library.recommend("ada")
    # The same question in other bytes: no worker has it ready.
    await library.recommend("ada", at_least_as_fresh=first.freshness_token)
    after = await library.call("GetCacheStats", pb.GetCacheStatsRequest(), None)
    assert (after.hits - before.hits, after.misses - before.misses, after.errors) == (1, 1, 0)
    assert after.available
    assert after.memory_bytes > 0


async def test_index_statistics_and_placement(library: Service):
    await library.did("ada", "stub")
    request = pb.GetIndexStatsRequest(tenant_id="a")
    stats = await library.call("GetIndexStats", request, None)
    assert (stats.placement, stats.entity_count, stats.vector_count) == (0, 61, 60)
    assert (stats.index_name, stats.index_bytes, stats.table_bytes) == ("", 0, 0)
    place = pb.PlaceTenantRequest(tenant_id="a")
    asked = [await library.call("PlaceTenant", place, None) for _ in range(2)]
    assert [(a.placement, a.phase) for a in asked] == [(0, "requested")] * 2
    await library.run_jobs()
    stats = await library.call("GetIndexStats", request, None)
    assert (stats.entity_count, stats.vector_count) == (61, 60)
    assert stats.placement > 0
    assert stats.index_name
    assert stats.table_bytes > stats.index_bytes > 0
    placed = await library.call("PlaceTenant", place, None)
    assert (placed.placement, placed.phase) == (stats.placement, "done")
    assert len((await library.recommend("ada", page_size=100)).items) == 60


async def test_place_tenant_tells_how_much_of_the_index_is_built(service: Service):
    await service.make_tenant("wide", dimension=64)
    async with service.deps.database.connection("wide") as connection:
        await connection.execute(
            "INSERT INTO entities (placement, tenant_id, entity_type, entity_id, feature_vector)"
            " SELECT 0, 'wide', 'book', 'b' || n, (SELECT array_agg(random())"
            " FROM generate_series(1, 64) WHERE n > 0)::real[]::halfvec"
            " FROM generate_series(1, 12000) AS n"
        )
    place = pb.PlaceTenantRequest(tenant_id="wide")
    told = [await service.call("PlaceTenant", place, None)]
    moving = asyncio.create_task(service.run_jobs())
    while not moving.done():
        told.append(await service.call("PlaceTenant", place, None))
    await moving
    told.append(await service.call("PlaceTenant", place, None))
    shares = [t.index_share for t in told if t.HasField("index_share")]
    assert {t.phase for t in told if t.HasField("index_share")} == {"indexing"}
    assert shares == sorted(shares)
    assert any(0 < share < 1 for share in shares)
    assert (told[-1].phase, told[-1].HasField("index_share")) == ("done", False)


async def test_every_call_finds_a_tenant_that_was_moved_meanwhile(library: Service):
    for user in ("ada", "ben"):
        for entity_id in ("b00", "b03"):
            await library.did(user, entity_id)
    first = await library.recommend("ada", page_size=5)
    stale = await library.deps.tenants.get("a")
    await library.call("PlaceTenant", pb.PlaceTenantRequest(tenant_id="a"), None)
    await library.run_jobs()

    async def call(method: str, request):
        library.deps.tenants._known["a"] = stale
        return await library.call(method, request)

    book = EntityRef(entity_type="book", entity_id="b00")
    page = recommendation_pb2.RecommendRequest(
        user_id="ada", page_size=5, page_token=first.next_page_token
    )
    assert len((await call("Recommend", page)).items) == 5
    asked = recommendation_pb2.RecommendRequest(user_id="ada")
    assert len((await call("Recommend", asked)).items) == 20
    similar = recommendation_pb2.SimilarEntitiesRequest(entity=book)
    assert len((await call("SimilarEntities", similar)).items) == 20
    rerank = recommendation_pb2.RerankRequest(entities=[book])
    assert len((await call("Rerank", rerank)).items) == 1
    assert len((await call("Trending", recommendation_pb2.TrendingRequest())).items) == 2
    users = recommendation_pb2.SimilarUsersRequest(user_id="ada")
    assert len((await call("SimilarUsers", users)).users) == 1
    audience = recommendation_pb2.RecommendUsersRequest(entity=book, include_seen=True)
    assert len((await call("RecommendUsers", audience)).users) == 2
    assert (await call("GetEntity", entity_pb2.GetEntityRequest(entity=book))).entity.attributes
    assert len((await call("ListEntities", entity_pb2.ListEntitiesRequest())).entities) == 50
    changed = entity_pb2.UpsertEntityRequest(entity=entity_pb2.Entity(entity=book, hidden=True))
    assert not (await call("UpsertEntity", changed)).created
    ingest = interaction_pb2.IngestInteractionRequest()
    ingest.interaction.user_id, ingest.interaction.interaction_type = "ada", "like"
    ingest.interaction.entity.CopyFrom(book)
    await call("IngestInteraction", ingest)
    merge = interaction_pb2.MergeUsersRequest(source_user_id="ben", target_user_id="ada")
    assert (await call("MergeUsers", merge)).moved_count == 2
    gone = interaction_pb2.DeleteInteractionsRequest(user_id="ada")
    assert (await call("DeleteInteractions", gone)).deleted_count == 5
    await call("DeleteEntity", entity_pb2.DeleteEntityRequest(entity=book))


INVALIDATIONS = {
    "user": ({"user_id": "ada"}, ["ada"]),
    "pattern": ({"pattern": "?d*"}, ["ada"]),
    "pattern of all": ({"pattern": "*"}, ["ada", "ben"]),
    "entity": ({"entity": EntityRef(entity_type="book", entity_id="b00")}, ["ada", "ben"]),
    "all": ({"all": True}, ["ada", "ben"]),
    "user without interactions": ({"user_id": "new"}, ["new"]),
    "pattern of users without interactions": ({"pattern": "n_*"}, []),
}


@pytest.mark.parametrize("case", INVALIDATIONS, ids=str)
async def test_invalidated_answers_are_computed_again(library: Service, case: str):
    target, concerned = INVALIDATIONS[case]
    users = ("ada", "ben", "new")
    for user in users[:2]:
        await library.did(user, "b00")
    for user in users:
        await library.recommend(user, explain=True)
    request = pb.InvalidateCacheRequest(tenant_id="a", **target)
    answer = await library.call("InvalidateCache", request, None)
    with_rows = {"user": 1, "pattern": 1, "pattern of all": 2}
    assert answer.users_count == with_rows.get(case, 0)
    for user in concerned:
        assert not (await library.recommend(user, explain=True)).explanation.cached
    if case in ("user", "pattern"):
        assert (await library.recommend("ben", explain=True)).explanation.cached


async def test_same_tenant_made_at_once_is_made_once(service: Service):
    request = pb.CreateTenantRequest(tenant=pb.Tenant(tenant_id="once"))
    calls = [service.call("CreateTenant", request, None) for _ in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, pb.CreateTenantResponse) for result in results) == 1
    assert {str(r.code()) for r in results if isinstance(r, Exception)} == {
        "StatusCode.ALREADY_EXISTS"
    }
