"""Two tenants with the same names in them never see one another, whatever is called."""

from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from penchant.v1 import admin_pb2, entity_pb2, interaction_pb2, recommendation_pb2
from penchant.v1.common_pb2 import EntityRef

from tests.rpc.conftest import Refusal, Service, ids

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = EntityRef(entity_type="book", entity_id="a-only")
DONE = interaction_pb2.Interaction(
    user_id="a-user", entity=SECRET, interaction_type="like", interaction_id="a-id"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def filled(standing: Service) -> None:
    """Tenant `a` with books, readers, trends; tenant `b` with one book and one reader."""
    await standing.make_tenant("b")
    for number in range(8):
        await standing.put(f"a{number}", genre="sf", secret="of a")
    await standing.put("a-only", genre="sf", secret="of a")
    await standing.put("b-only", tenant="b", genre="sf", mine=True)
    request = interaction_pb2.IngestInteractionRequest(interaction=DONE)
    await standing.call("IngestInteraction", request)
    for user in ("a-user", "a-other"):
        for number in range(3):
            await standing.did(user, f"a{number}")
    await standing.did("b-user", "b-only", tenant="b")
    await standing.call(
        "SetInteractionType",
        admin_pb2.SetInteractionTypeRequest(
            tenant_id="a",
            interaction_type=admin_pb2.InteractionType(interaction_type="a-type", weight=1),
        ),
    )
    await standing.run_jobs()


NOT_FOUND = {
    "GetEntity": (entity_pb2.GetEntityRequest(entity=SECRET), "ENTITY_NOT_FOUND"),
    "DeleteEntity": (entity_pb2.DeleteEntityRequest(entity=SECRET), "ENTITY_NOT_FOUND"),
    "SimilarEntities": (
        recommendation_pb2.SimilarEntitiesRequest(entity=SECRET),
        "ENTITY_NOT_FOUND",
    ),
    "RecommendUsers": (recommendation_pb2.RecommendUsersRequest(entity=SECRET), "ENTITY_NOT_FOUND"),
    "SimilarUsers": (recommendation_pb2.SimilarUsersRequest(user_id="a-user"), "USER_NOT_FOUND"),
}


@pytest.mark.parametrize("method", NOT_FOUND)
async def test_another_tenants_names_are_not_found(standing: Service, method: str):
    request, reason = NOT_FOUND[method]
    refusal = await standing.refused(method, request, tenant="b")
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", reason)
    assert "of a" not in refusal.message


async def answer(service: Service, method: str, request: Message) -> Any:
    return await service.call(method, request, tenant="b")


async def test_recommend_offers_nothing_of_another_tenant(standing: Service):
    request = recommendation_pb2.RecommendRequest(
        user_id="a-user", context_entities=[SECRET], explain=True
    )
    response = await answer(standing, "Recommend", request)
    assert ids(response) == ["b-only"]
    assert response.explanation.phase == "unknown"
    batch = recommendation_pb2.BatchRecommendRequest(
        requests=[request, recommendation_pb2.RecommendRequest()]
    )
    for result in (await answer(standing, "BatchRecommend", batch)).results:
        assert ids(result.response) == ["b-only"]


async def test_rerank_misses_what_another_tenant_has(standing: Service):
    request = recommendation_pb2.RerankRequest(
        user_id="a-user", entities=[SECRET], context_entities=[SECRET]
    )
    response = await answer(standing, "Rerank", request)
    assert (ids(response), list(response.missing)) == ([], [SECRET])


async def test_trending_counts_the_tenants_own(standing: Service):
    assert ids(await answer(standing, "Trending", recommendation_pb2.TrendingRequest())) == [
        "b-only"
    ]


async def test_users_are_the_tenants_own(standing: Service):
    audience = recommendation_pb2.RecommendUsersRequest(
        entity=EntityRef(entity_type="book", entity_id="b-only"), include_seen=True
    )
    users = (await answer(standing, "RecommendUsers", audience)).users
    assert [user.user_id for user in users] == ["b-user"]
    similar = recommendation_pb2.SimilarUsersRequest(user_id="b-user")
    assert list((await answer(standing, "SimilarUsers", similar)).users) == []


async def test_lists_hold_the_tenants_own(standing: Service):
    entities = (await answer(standing, "ListEntities", entity_pb2.ListEntitiesRequest())).entities
    assert [entity.entity.entity_id for entity in entities] == ["b-only"]
    for request in (
        interaction_pb2.ListInteractionsRequest(user_id="a-user"),
        interaction_pb2.ListInteractionsRequest(entity=SECRET),
    ):
        assert list((await answer(standing, "ListInteractions", request)).interactions) == []


async def test_another_tenants_interactions_stay(standing: Service):
    mine = interaction_pb2.ListInteractionsRequest(user_id="a-user")
    before = await standing.call("ListInteractions", mine)
    for request in (
        interaction_pb2.DeleteInteractionsRequest(user_id="a-user"),
        interaction_pb2.DeleteInteractionsRequest(entity=SECRET),
        interaction_pb2.DeleteInteractionsRequest(interaction_ids=["a-id"]),
    ):
        assert (await answer(standing, "DeleteInteractions", request)).deleted_count == 0
    merge = interaction_pb2.MergeUsersRequest(source_user_id="a-user", target_user_id="b-user")
    assert (await answer(standing, "MergeUsers", merge)).moved_count == 0
    assert await standing.call("ListInteractions", mine) == before
    assert len(before.interactions) == 4


async def test_another_tenants_interaction_types_are_unknown(standing: Service):
    request = interaction_pb2.IngestInteractionRequest(interaction=DONE)
    request.interaction.interaction_type = "a-type"
    refusal = await standing.refused("IngestInteraction", request, tenant="b")
    assert refusal.reason == "UNKNOWN_INTERACTION_TYPE"
    assert "a-type" not in refusal.fields["interaction.interaction_type"].partition("it has")[2]


async def test_page_tokens_are_good_for_their_tenant_alone(standing: Service):
    tokens = {
        "Recommend": recommendation_pb2.RecommendRequest(page_size=1),
        "Trending": recommendation_pb2.TrendingRequest(page_size=1),
        "ListEntities": entity_pb2.ListEntitiesRequest(page_size=1),
        "ListInteractions": interaction_pb2.ListInteractionsRequest(user_id="a-user", page_size=1),
        "SimilarUsers": recommendation_pb2.SimilarUsersRequest(user_id="a-user", page_size=1),
        "RecommendUsers": recommendation_pb2.RecommendUsersRequest(
            entity=SECRET, page_size=1, include_seen=True
        ),
        "SimilarEntities": recommendation_pb2.SimilarEntitiesRequest(entity=SECRET, page_size=1),
    }
    for method, request in tokens.items():
        token = (await standing.call(method, request)).next_page_token
        if method != "SimilarUsers":
            assert token, method
        request.page_token = token or "AAAA"
        refusal: Refusal = await standing.refused(method, request, tenant="b")
        assert refusal.code == "INVALID_ARGUMENT"
        assert refusal.reason in {"PAGE_TOKEN_MISMATCH", "INVALID_PAGE_TOKEN"}


async def test_freshness_tokens_are_good_for_their_tenant_alone(standing: Service):
    ack = await standing.did("a-user", "a0")
    request = recommendation_pb2.RecommendRequest(at_least_as_fresh=ack.freshness_token)
    refusal = await standing.refused("Recommend", request, tenant="b")
    assert list(refusal.fields) == ["at_least_as_fresh"]


async def test_same_names_are_other_things_in_another_tenant(standing: Service):
    """Last, since it gives `b` what the tests above look for."""
    request = interaction_pb2.IngestInteractionRequest(interaction=DONE)
    request.interaction.weight = 3  # in `a` the id is taken with other content
    assert (await answer(standing, "IngestInteraction", request)).ack.interaction_id == "a-id"
    stub = (await answer(standing, "GetEntity", entity_pb2.GetEntityRequest(entity=SECRET))).entity
    assert (stub.stub, len(stub.attributes.fields)) == (True, 0)
    upsert = entity_pb2.UpsertEntityRequest(entity=entity_pb2.Entity(entity=SECRET, hidden=True))
    assert (await answer(standing, "UpsertEntity", upsert)).created
    batch = entity_pb2.BatchUpsertEntitiesRequest(requests=[upsert])
    assert (await answer(standing, "BatchUpsertEntities", batch)).upserted_count == 1
    call = standing.interaction.IngestInteractions(
        iter([interaction_pb2.IngestInteractionsRequest(interactions=[DONE])]),
        metadata=(("x-tenant-id", "b"),),
        timeout=10,
    )
    (streamed,) = [response async for response in call]
    assert streamed.errors[0].reason == "INTERACTION_ID_REUSED"
    await answer(standing, "DeleteEntity", entity_pb2.DeleteEntityRequest(entity=SECRET))
    mine = (await standing.call("GetEntity", entity_pb2.GetEntityRequest(entity=SECRET))).entity
    assert (mine.hidden, mine.attributes["secret"]) == (False, "of a")
    stats = admin_pb2.GetIndexStatsRequest(tenant_id="b")
    assert (await standing.call("GetIndexStats", stats)).entity_count == 1
    clear = admin_pb2.InvalidateCacheRequest(tenant_id="b", pattern="*")
    assert (await standing.call("InvalidateCache", clear)).users_count == 2
    kinds = admin_pb2.ListInteractionTypesRequest(tenant_id="b")
    listed = (await standing.call("ListInteractionTypes", kinds)).interaction_types
    assert "a-type" not in {kind.interaction_type for kind in listed}
