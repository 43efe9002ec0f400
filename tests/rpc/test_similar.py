"""SimilarEntities, SimilarUsers, RecommendUsers, Trending and Rerank."""

import time

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from penchant.v1 import admin_pb2, entity_pb2
from penchant.v1 import recommendation_pb2 as pb
from penchant.v1.common_pb2 import EntityRef
from penchant.v1.interaction_pb2 import IngestInteractionRequest

from tests.rpc.conftest import Service, book, ids


def books(*entity_ids: str) -> list[EntityRef]:
    return [book(entity_id) for entity_id in entity_ids]


def genres(response) -> set[str]:
    return {item.attributes["genres"][0] for item in response.items}


async def pages(service: Service, method: str, request, name: str = "items") -> list:
    """Everything that a method answers, page after page."""
    collected = []
    while True:
        response = await service.call(method, request)
        assert len(getattr(response, name)) <= request.page_size
        collected += getattr(response, name)
        if not response.next_page_token:
            return collected
        request.page_token = response.next_page_token


async def hide(service: Service, entity_id: str) -> None:
    entity = entity_pb2.Entity(entity=book(entity_id), hidden=True)
    await service.call("UpsertEntity", entity_pb2.UpsertEntityRequest(entity=entity))


@pytest.fixture
async def readers(library: Service) -> Service:
    """The library with three readers of sf, three of crime and one of romance; jobs have run."""
    for genre, user in ((0, "s"), (1, "c")):
        for number in range(3):
            for place in range(3):
                await library.did(f"{user}{number}", f"b{genre + 3 * (number + place):02}")
    await library.did("r0", "b02")
    await library.run_jobs()
    return library


async def test_similar_entities_are_of_the_same_genre(library: Service):
    answer = await library.call(
        "SimilarEntities", pb.SimilarEntitiesRequest(entity=book(), page_size=10, explain=True)
    )
    assert genres(answer) == {"sf"}
    assert "b00" not in ids(answer)
    assert answer.recommendation_id
    for item in answer.items:
        assert item.reasons[0].source == "content"
        assert item.source_scores[0].raw > 0
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)


async def test_similar_entities_know_who_interacted_with_both(library: Service):
    for user in range(6):
        await library.did(f"u{user}", "b00")
        await library.did(f"u{user}", "b59")
    await library.run_jobs()
    request = pb.SimilarEntitiesRequest(entity=book(), page_size=60)
    answer = await library.call("SimilarEntities", request)
    found = next(item for item in answer.items if item.entity.entity_id == "b59")
    reason = next(r for r in found.reasons if r.source == "item_to_item")
    assert list(reason.because_of) == [book()]


async def test_similar_entities_options(library: Service):
    await library.put("film", entity_type="film", genres=["sf"])
    await hide(library, "b03")
    request = pb.SimilarEntitiesRequest(
        entity=book(),
        page_size=60,
        filter="year >= 1990",
        exclude=books("b33"),
        attribute_mask=FieldMask(paths=["year"]),
    )
    answer = await library.call("SimilarEntities", request)
    assert all(list(item.attributes.fields) == ["year"] for item in answer.items)
    assert all(item.attributes["year"] >= 1990 for item in answer.items)
    assert not {"b33", "b03", "film"} & set(ids(answer))
    films = pb.SimilarEntitiesRequest(entity=book(), entity_type="film")
    assert ids(await library.call("SimilarEntities", films)) == ["film"]
    least = answer.items[3].score
    request.min_score = least
    cut = await library.call("SimilarEntities", request)
    assert 0 < len(cut.items) < len(answer.items)
    assert all(item.score >= least for item in cut.items)


async def test_similar_entities_pages_are_one_snapshot(library: Service):
    whole = await library.call(
        "SimilarEntities", pb.SimilarEntitiesRequest(entity=book(), page_size=50)
    )
    request = pb.SimilarEntitiesRequest(entity=book(), page_size=7)
    items = await pages(library, "SimilarEntities", request)
    assert [item.entity for item in items][:50] == [item.entity for item in whole.items]
    assert len({item.entity.entity_id for item in items}) == len(items)


async def test_similar_entities_of_a_stub_is_empty_not_an_error(library: Service):
    await library.did("ada", "stub")
    answer = await library.call("SimilarEntities", pb.SimilarEntitiesRequest(entity=book("stub")))
    assert ids(answer) == []


async def test_similar_users_share_taste(readers: Service):
    request = pb.SimilarUsersRequest(user_id="s0", page_size=50)
    users = (await readers.call("SimilarUsers", request)).users
    assert {user.user_id for user in users[:2]} == {"s1", "s2"}
    assert "s0" not in {user.user_id for user in users}
    assert all(-1 <= user.score <= 1.001 for user in users)
    assert users[0].interaction_count == 3
    request = pb.SimilarUsersRequest(user_id="s0", page_size=2, min_score=-1)
    assert await pages(readers, "SimilarUsers", request, "users") == list(users)
    request = pb.SimilarUsersRequest(user_id="s0", min_score=users[1].score)
    assert len((await readers.call("SimilarUsers", request)).users) == 2


async def test_similar_users_of_unknown_and_of_bare_users(library: Service):
    refusal = await library.refused("SimilarUsers", pb.SimilarUsersRequest(user_id="nobody"))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "USER_NOT_FOUND")
    await library.did("ada", "stub")
    refusal = await library.refused("SimilarUsers", pb.SimilarUsersRequest(user_id="ada"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")


async def test_recommend_users_is_the_audience(readers: Service):
    request = pb.RecommendUsersRequest(entity=book("b30"), page_size=50)
    users = (await readers.call("RecommendUsers", request)).users
    assert {user.user_id for user in users[:3]} == {"s0", "s1", "s2"}
    request = pb.RecommendUsersRequest(entity=book("b30"), page_size=2)
    assert await pages(readers, "RecommendUsers", request, "users") == list(users)


async def test_recommend_users_leaves_out_who_has_seen_it(readers: Service):
    request = pb.RecommendUsersRequest(entity=book("b00"), page_size=50)
    unseen = {u.user_id for u in (await readers.call("RecommendUsers", request)).users}
    request.include_seen = True
    everybody = {u.user_id for u in (await readers.call("RecommendUsers", request)).users}
    assert everybody - unseen == {"s0"}
    request.min_score = 0.999
    assert len((await readers.call("RecommendUsers", request)).users) < len(everybody)


async def test_recommend_users_of_unknown_and_of_bare_entities(library: Service):
    refusal = await library.refused("RecommendUsers", pb.RecommendUsersRequest(entity=book("x")))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "ENTITY_NOT_FOUND")
    await library.did("ada", "stub")
    refusal = await library.refused("RecommendUsers", pb.RecommendUsersRequest(entity=book("stub")))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")


async def test_trending_counts_what_happened_lately(library: Service):
    empty = await library.call("Trending", pb.TrendingRequest())
    assert (ids(empty), empty.HasField("window_start")) == ([], False)
    for user in range(4):
        await library.did(f"u{user}", "b10")
    await library.did("u0", "b11", "purchase")
    await library.did("u0", "b12", weight=-5)
    await library.did("u0", "b13", "impression")
    await library.run_jobs()
    answer = await library.call("Trending", pb.TrendingRequest())
    assert ids(answer) == ["b10", "b11"]
    assert [item.score for item in answer.items] == pytest.approx([1, 5 / 8], abs=1e-3)
    assert answer.items[0].reasons[0].source == "trending"
    assert answer.window_end.seconds - answer.window_start.seconds == 7 * 86_400
    assert abs(answer.window_end.seconds - time.time()) < 60
    await hide(library, "b10")
    assert ids(await library.call("Trending", pb.TrendingRequest())) == ["b11"]
    request = pb.TrendingRequest(filter="year < 1960")
    assert ids(await library.call("Trending", request)) == []
    assert ids(await library.call("Trending", pb.TrendingRequest(entity_type="film"))) == []


async def test_trending_pages(library: Service):
    for number in range(20):
        await library.did("ada", f"b{number:02}", weight=number + 1)
    await library.run_jobs()
    request = pb.TrendingRequest(page_size=6, attribute_mask=FieldMask(paths=["year"]))
    items = await pages(library, "Trending", request)
    assert [i.entity.entity_id for i in items] == [f"b{n:02}" for n in range(19, -1, -1)]
    assert all(list(item.attributes.fields) == ["year"] for item in items)


async def test_rerank_orders_the_callers_list(readers: Service):
    await hide(readers, "b30")
    listed = books("b31", "b33", "unknown", "b34", "b36", "b33", "b30")
    answer = await readers.call("Rerank", pb.RerankRequest(user_id="s0", entities=listed))
    assert set(ids(answer)[:2]) == {"b33", "b36"}
    assert sorted(ids(answer)) == ["b31", "b33", "b34", "b36"]
    assert list(answer.missing) == books("unknown", "b30")
    assert answer.recommendation_id


async def test_rerank_keeps_the_callers_order_where_nothing_is_known(library: Service):
    for number in range(5):
        await library.put(f"bare{number}", entity_type="thing")
    listed = [EntityRef(entity_type="thing", entity_id=f"bare{n}") for n in (3, 1, 4, 0, 2)]
    answer = await library.call("Rerank", pb.RerankRequest(entities=listed))
    assert [item.entity for item in answer.items] == listed


async def test_rerank_options(readers: Service):
    listed = books(*(f"b{number:02}" for number in range(30, 42)))
    request = pb.RerankRequest(
        entities=listed,
        context_entities=books("b02"),
        attribute_mask=FieldMask(),
        explain=True,
    )
    answer = await readers.call("Rerank", request)
    assert [int(i[1:]) % 3 for i in ids(answer)[:4]] == [2] * 4
    assert not answer.items[0].attributes.fields
    assert answer.items[0].source_scores[0].source == "context"
    request.boosts.add(filter='genres:"crime"', factor=100)
    boosted = await readers.call("Rerank", request)
    assert int(ids(boosted)[0][1:]) % 3 == 1
    del request.boosts[:]
    request.diversity = 1
    mixed = await readers.call("Rerank", request)
    assert sorted(ids(mixed)) == sorted(ids(answer))
    assert len({int(i[1:]) % 3 for i in ids(mixed)[:3]}) > 1
    session = pb.RerankRequest(session_id="new", entities=listed)
    assert len((await readers.call("Rerank", session)).items) == 12


async def test_source_weights_of_nought_still_answer(library: Service):
    tenant = admin_pb2.Tenant(tenant_id="a")
    for source in (
        "content", "context", "item_to_item", "trending", "popular", "segment", "newest",
    ):  # fmt: skip
        tenant.settings.source_weights[source] = 0
    await library.call("UpdateTenant", admin_pb2.UpdateTenantRequest(tenant=tenant))
    await library.did("ada", "b00")
    answer = await library.recommend("ada", explain=True)
    assert len(answer.items) == 20
    assert all(item.reasons for item in answer.items)
    assert (await library.call("Rerank", pb.RerankRequest(entities=books("b01")))).items


async def test_page_token_fits_even_with_the_longest_ids(service: Service):
    request = entity_pb2.BatchUpsertEntitiesRequest()
    kind = "t" * 255
    for number in range(600):
        row = request.requests.add().entity
        row.entity.entity_type, row.entity.entity_id = kind, f"{number:03}" * 85
        row.attributes.update({"genre": "sf", "n": number})
    await service.call("BatchUpsertEntities", request)
    context = [row.entity.entity for row in request.requests[:3]]
    for place, seen in enumerate(request.requests[3:6]):
        done = IngestInteractionRequest()
        done.interaction.user_id, done.interaction.interaction_type = "ada", "like"
        done.interaction.entity.CopyFrom(seen.entity.entity)
        done.interaction.interaction_id = str(place)
        await service.call("IngestInteraction", done)
    asked = {"context_entities": context, "page_size": 166, "entity_type": kind}
    answer = await service.recommend("ada", **asked)
    again = await service.recommend("ada", **asked, page_token=answer.next_page_token)
    assert again.items
    assert not set(ids(answer)) & set(ids(again))


TOKENS = {
    "SimilarEntities": pb.SimilarEntitiesRequest(entity=book()),
    "SimilarUsers": pb.SimilarUsersRequest(user_id="s0"),
    "RecommendUsers": pb.RecommendUsersRequest(entity=book("b30")),
    "Trending": pb.TrendingRequest(),
}


async def test_page_token_of_another_request_is_refused(readers: Service):
    tokens = {}
    for method, request in TOKENS.items():
        asked = type(request)()
        asked.CopyFrom(request)
        asked.page_size = 1
        tokens[method] = (await readers.call(method, asked)).next_page_token
    assert all(tokens.values())
    for method, request in TOKENS.items():
        for other, token in tokens.items():
            if method != other:
                asked = type(request)()
                asked.CopyFrom(request)
                asked.page_token = token
                refusal = await readers.refused(method, asked)
                assert refusal.reason == "PAGE_TOKEN_MISMATCH", (method, other)
