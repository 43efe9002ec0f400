"""What the smaller questions of RecommendationService refuse, and how."""

import pytest
from penchant.v1 import recommendation_pb2 as pb

from tests.rpc.conftest import Service, book

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAN, INFINITY = float("nan"), float("inf")

REFUSED = {
    "similar without entity": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(),
        "entity.entity_type",
    ),
    "similar type": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), entity_type="\t"),
        "entity_type",
    ),
    "similar size": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), page_size=-1),
        "page_size",
    ),
    "similar token": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), page_token="x"),
        "page_token",
    ),
    "similar filter": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), filter="("),
        "filter",
    ),
    "similar exclude": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), exclude=[book(), book("")]),
        "exclude[1].entity_id",
    ),
    "similar too many excluded": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), exclude=[book()] * 1001),
        "exclude",
    ),
    "similar score": (
        "SimilarEntities",
        pb.SimilarEntitiesRequest(entity=book(), min_score=NAN),
        "min_score",
    ),
    "users without user": ("SimilarUsers", pb.SimilarUsersRequest(), "user_id"),
    "users size": (
        "SimilarUsers",
        pb.SimilarUsersRequest(user_id="u", page_size=-1),
        "page_size",
    ),
    "users token": (
        "SimilarUsers",
        pb.SimilarUsersRequest(user_id="u", page_token="x"),
        "page_token",
    ),
    "users score": (
        "SimilarUsers",
        pb.SimilarUsersRequest(user_id="u", min_score=INFINITY),
        "min_score",
    ),
    "audience without entity": (
        "RecommendUsers",
        pb.RecommendUsersRequest(),
        "entity.entity_type",
    ),
    "audience size": (
        "RecommendUsers",
        pb.RecommendUsersRequest(entity=book(), page_size=-3),
        "page_size",
    ),
    "audience token": (
        "RecommendUsers",
        pb.RecommendUsersRequest(entity=book(), page_token="x"),
        "page_token",
    ),
    "audience score": (
        "RecommendUsers",
        pb.RecommendUsersRequest(entity=book(), min_score=NAN),
        "min_score",
    ),
    "trending size": ("Trending", pb.TrendingRequest(page_size=-1), "page_size"),
    "trending type": ("Trending", pb.TrendingRequest(entity_type="\0"), "entity_type"),
    "trending filter": ("Trending", pb.TrendingRequest(filter="a:"), "filter"),
    "trending token": ("Trending", pb.TrendingRequest(page_token="x"), "page_token"),
    "rerank nothing": ("Rerank", pb.RerankRequest(), "entities"),
    "rerank too many": ("Rerank", pb.RerankRequest(entities=[book()] * 1001), "entities"),
    "rerank name": ("Rerank", pb.RerankRequest(entities=[book("")]), "entities[0].entity_id"),
    "rerank user": ("Rerank", pb.RerankRequest(entities=[book()], user_id=""), "user_id"),
    "rerank session": (
        "Rerank",
        pb.RerankRequest(entities=[book()], session_id="s" * 248),
        "session_id",
    ),
    "rerank context": (
        "Rerank",
        pb.RerankRequest(entities=[book()], context_entities=[book()] * 51),
        "context_entities",
    ),
    "rerank diversity": (
        "Rerank",
        pb.RerankRequest(entities=[book()], diversity=-0.1),
        "diversity",
    ),
    "rerank boost": (
        "Rerank",
        pb.RerankRequest(entities=[book()], boosts=[pb.Boost(filter="a = 1", factor=101)]),
        "boosts[0].factor",
    ),
    "rerank boosts": (
        "Rerank",
        pb.RerankRequest(entities=[book()], boosts=[pb.Boost(filter="a = 1", factor=1)] * 21),
        "boosts",
    ),
    "batch of none": ("BatchRecommend", pb.BatchRecommendRequest(), "requests"),
    "batch too large": (
        "BatchRecommend",
        pb.BatchRecommendRequest(requests=[pb.RecommendRequest()] * 101),
        "requests",
    ),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_similarity_refuses(standing: Service, case: str):
    method, request, field = REFUSED[case]
    refusal = await standing.refused(method, request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_similar_entities_of_unknown_entity(standing: Service):
    refusal = await standing.refused("SimilarEntities", pb.SimilarEntitiesRequest(entity=book("x")))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "ENTITY_NOT_FOUND")
    assert refusal.metadata == {"entity_type": "book", "entity_id": "x"}
