"""Recommend: the normal case, its options, and what it refuses."""

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from penchant.v1 import entity_pb2, recommendation_pb2
from penchant.v1.common_pb2 import EntityRef
from penchant.v1.recommendation_pb2 import Boost, RecommendRequest

from tests.rpc.conftest import Service, ids


def genres(response) -> list[str]:
    return [item.attributes["genres"][0] for item in response.items]


def book(entity_id: str) -> EntityRef:
    return EntityRef(entity_type="book", entity_id=entity_id)


async def test_recommend_follows_taste_with_reasons(library: Service):
    for entity_id in ("b00", "b03", "b06"):
        await library.did("ada", entity_id)
    answer = await library.recommend("ada", page_size=10)
    assert genres(answer) == ["sf"] * 10
    assert not {"b00", "b03", "b06"} & set(ids(answer))
    for item in answer.items:
        assert item.reasons[0].source == "content"
        assert {ref.entity_id for ref in item.reasons[0].because_of} <= {"b00", "b03", "b06"}
        assert sum(reason.share for reason in item.reasons) == pytest.approx(1)
        assert 0 <= item.score <= 1
    assert [i.score for i in answer.items] == sorted((i.score for i in answer.items), reverse=True)


async def test_recommend_unknown_user_is_never_empty(library: Service):
    answer = await library.recommend("nobody-yet", page_size=5, explain=True)
    assert len(answer.items) == 5
    assert answer.explanation.phase == "unknown"
    assert all(item.reasons for item in answer.items)


async def test_recommend_without_subject_uses_context(library: Service):
    answer = await library.recommend(context_entities=[book("b01")], page_size=8)
    assert genres(answer) == ["crime"] * 8
    assert "b01" not in ids(answer)
    assert answer.items[0].reasons[0].source == "context"
    assert answer.items[0].reasons[0].because_of == [book("b01")]


async def test_recommend_phases(library: Service):
    await library.did("cold", "b00")
    for number in range(6):
        await library.did("warm", f"b{number:02}")
    phases = [
        (await library.recommend(u, explain=True)).explanation.phase for u in ("cold", "warm")
    ]
    assert phases == ["cold", "warm"]


async def test_recommend_shows_an_ingest_in_the_very_next_answer(library: Service):
    for entity_id in ("b00", "b03", "b06"):
        await library.did("ada", entity_id)
    assert genres(await library.recommend("ada", page_size=5)) == ["sf"] * 5
    for entity_id in ("b01", "b04", "b07", "b10", "b13"):
        ack = await library.did("ada", entity_id, "purchase")
    answer = await library.recommend("ada", page_size=5, at_least_as_fresh=ack.freshness_token)
    assert genres(answer).count("crime") > genres(answer).count("sf")


async def test_recommend_negative_interactions_repel(library: Service):
    await library.did("ada", "b00")
    await library.did("ada", "b01", weight=-3)
    answer = await library.recommend("ada", page_size=10, exclude=[])
    assert "crime" not in genres(answer)


async def test_recommend_filter(library: Service):
    answer = await library.recommend("ada", filter='genres:"crime" AND year >= 2000', page_size=30)
    assert {i.attributes["genres"][0] for i in answer.items} == {"crime"}
    assert all(item.attributes["year"] >= 2000 for item in answer.items)
    assert len(answer.items) == 7


async def test_recommend_filter_that_leaves_nothing_is_empty(library: Service):
    assert ids(await library.recommend("ada", filter="year > 3000")) == []


async def test_recommend_exclude_and_include_seen(library: Service):
    await library.did("ada", "b00")
    excluded = await library.recommend("ada", page_size=60, exclude=[book("b03"), book("b06")])
    assert not {"b00", "b03", "b06"} & set(ids(excluded))
    seen = await library.recommend("ada", page_size=60, include_seen=True)
    assert "b00" in ids(seen)


async def test_recommend_boost_moves_matching_items_up(library: Service):
    await library.did("ada", "b00")
    boosted = await library.recommend(
        "ada", page_size=5, boosts=[Boost(filter='genres:"romance"', factor=50)]
    )
    assert genres(boosted)[0] == "romance"


async def test_recommend_diversity_mixes_genres(library: Service):
    for entity_id in ("b00", "b03", "b01"):
        await library.did("ada", entity_id)
    plain = await library.recommend("ada", page_size=12)
    mixed = await library.recommend("ada", page_size=12, diversity=0.9)
    assert len(set(genres(mixed))) >= len(set(genres(plain)))
    assert ids(plain) != ids(mixed)


async def test_recommend_min_score_cuts(library: Service):
    await library.did("ada", "b00")
    everything = await library.recommend("ada", page_size=60)
    least = everything.items[5].score
    cut = await library.recommend("ada", page_size=60, min_score=least)
    assert all(item.score >= least for item in cut.items)
    assert 0 < len(cut.items) < len(everything.items)


async def test_recommend_attribute_mask(library: Service):
    one = await library.recommend(page_size=1, attribute_mask=FieldMask(paths=["year"]))
    assert list(one.items[0].attributes.fields) == ["year"]
    none = await library.recommend(page_size=1, attribute_mask=FieldMask())
    assert list(none.items[0].attributes.fields) == []


async def test_recommend_pages_are_one_snapshot(library: Service):
    await library.did("ada", "b00")
    whole = await library.recommend("ada", page_size=50)
    first = await library.recommend("ada", page_size=10)
    collected, token = ids(first), first.next_page_token
    while token:
        page = await library.recommend("ada", page_size=10, page_token=token)
        assert page.recommendation_id == first.recommendation_id
        assert all(item.reasons and item.attributes.fields for item in page.items)
        collected += ids(page)
        token = page.next_page_token
    assert len(collected) == len(set(collected))
    assert collected[:50] == ids(whole)


async def test_recommend_hidden_and_unavailable_entities_never_appear(library: Service):
    hide = entity_pb2.UpsertEntityRequest()
    hide.entity.entity.CopyFrom(book("b03"))
    hide.entity.hidden = True
    late = entity_pb2.UpsertEntityRequest()
    late.entity.entity.CopyFrom(book("b06"))
    late.entity.available_from.FromSeconds(int(time.time()) + 3600)
    await library.did("ada", "b00")
    assert {"b03", "b06"} <= set(ids(await library.recommend("ada", page_size=60)))
    await library.call("UpsertEntity", hide)
    await library.call("UpsertEntity", late)
    assert not {"b03", "b06"} & set(ids(await library.recommend("ada", page_size=60)))


async def test_recommend_new_entity_is_reachable_through_content(library: Service):
    await library.did("ada", "b00")
    await library.recommend("ada")
    await library.put("brand-new", genres=["sf"], title="Something new")
    assert "brand-new" in ids(await library.recommend("ada", page_size=60))


async def test_recommend_answers_from_cache_share_the_recommendation_id(library: Service):
    first = await library.recommend("ada", explain=True)
    second = await library.recommend("ada", explain=True)
    assert (first.explanation.cached, second.explanation.cached) == (False, True)
    assert second.recommendation_id == first.recommendation_id
    assert ids(second) == ids(first)


async def test_recommend_impressions_change_nothing(library: Service):
    await library.did("ada", "b00")
    before = await library.recommend("ada", explain=True)
    await library.did("ada", "b03", "impression")
    after = await library.recommend("ada", explain=True)
    assert after.recommendation_id == before.recommendation_id
    assert after.explanation.interaction_count == 1


async def test_recommend_for_session_and_after_merge(library: Service):
    from penchant.v1.interaction_pb2 import IngestInteractionRequest, MergeUsersRequest

    request = IngestInteractionRequest()
    request.interaction.session_id = "s1"
    request.interaction.entity.CopyFrom(book("b02"))
    request.interaction.interaction_type = "view"
    await library.call("IngestInteraction", request)
    session = await library.call("Recommend", RecommendRequest(session_id="s1", page_size=5))
    assert genres(session) == ["romance"] * 5
    await library.call(
        "MergeUsers", MergeUsersRequest(source_session_id="s1", target_user_id="ada")
    )
    assert genres(await library.recommend("ada", page_size=5)) == ["romance"] * 5


async def test_recommend_same_question_at_once_gets_one_answer(library: Service):
    await library.did("ada", "b00")
    answers = await asyncio.gather(*(library.recommend("ada") for _ in range(12)))
    assert len({tuple(ids(a)) for a in answers}) == 1


async def test_recommend_trending_and_neighbours_take_part_after_the_jobs(library: Service):
    for user in range(6):
        await library.did(f"u{user}", "b00")
        await library.did(f"u{user}", "b59")
    await library.run_jobs()
    await library.did("ada", "b00")
    answer = await library.recommend("ada", explain=True, page_size=60)
    found = next(i for i in answer.items if i.entity.entity_id == "b59")
    sources = {reason.source for reason in found.reasons}
    assert {"item_to_item", "trending", "popular"} <= sources
    because = next(r for r in found.reasons if r.source == "item_to_item").because_of
    assert because == [book("b00")]
    assert answer.explanation.candidate_counts["item_to_item"] >= 1
    assert {s.source for s in found.source_scores} == sources


REFUSED = {
    "page_size negative": (dict(page_size=-1), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "page_size"),
    "user empty": (dict(user_id=""), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "user_id"),
    "user too long": (dict(user_id="u" * 256), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "user_id"),
    "user control character": (
        dict(user_id="a\nb"),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "user_id",
    ),
    "user session prefix": (
        dict(user_id="session:x"),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "user_id",
    ),
    "filter syntax": (dict(filter="year >="), "INVALID_ARGUMENT", "INVALID_FILTER", "filter"),
    "filter wrong type": (
        dict(filter="entity_id = 3"),
        "INVALID_ARGUMENT",
        "INVALID_FILTER",
        "filter",
    ),
    "diversity": (dict(diversity=1.5), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "diversity"),
    "diversity nan": (
        dict(diversity=float("nan")),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "diversity",
    ),
    "min_score": (
        dict(min_score=float("inf")),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "min_score",
    ),
    "boost factor": (
        dict(boosts=[Boost(filter="year > 1", factor=0)]),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "boosts[0].factor",
    ),
    "boost filter": (
        dict(boosts=[Boost(filter="(", factor=2)]),
        "INVALID_ARGUMENT",
        "INVALID_FILTER",
        "boosts[0].filter",
    ),
    "too many excluded": (
        dict(exclude=[book("x")] * 1001),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "exclude",
    ),
    "context without id": (
        dict(context_entities=[EntityRef(entity_type="book")]),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "context_entities[0].entity_id",
    ),
    "page token": (
        dict(page_token="garbage"),
        "INVALID_ARGUMENT",
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    "freshness token": (
        dict(at_least_as_fresh="zz"),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "at_least_as_fresh",
    ),
    "staleness below 0": (
        dict(max_staleness=Duration(nanos=-1)),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "max_staleness",
    ),
    "staleness above an hour": (
        dict(max_staleness=Duration(seconds=3600, nanos=1000)),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "max_staleness",
    ),
    "staleness beyond all numbers": (
        dict(max_staleness=Duration(seconds=2**63 - 1, nanos=2**31 - 1)),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "max_staleness",
    ),
    "scenario": (dict(scenario="x"), "UNIMPLEMENTED", "UNIMPLEMENTED", "scenario"),
    "algorithm": (dict(algorithm="als"), "UNIMPLEMENTED", "UNIMPLEMENTED", "algorithm"),
    "model_version": (
        dict(model_version="1"),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "model_version",
    ),
    "rotation": (dict(rotation=0.5), "UNIMPLEMENTED", "UNIMPLEMENTED", "rotation"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_recommend_refuses(service: Service, case: str):
    fields, code, reason, field = REFUSED[case]
    refusal = await service.refused("Recommend", RecommendRequest(**fields))
    assert (refusal.code, refusal.reason) == (code, reason)
    assert field in refusal.fields


async def test_recommend_filter_error_tells_the_position(service: Service):
    refusal = await service.refused("Recommend", RecommendRequest(filter="year > 1 AND ("))
    assert refusal.metadata["position"] == "14"


async def test_recommend_page_size_beyond_the_limit_is_coerced(library: Service):
    assert len((await library.recommend(page_size=5000)).items) == 60


async def test_recommend_page_token_of_another_request_is_refused(library: Service):
    token = (await library.recommend("ada", page_size=5)).next_page_token
    refusal = await library.refused(
        "Recommend", RecommendRequest(user_id="ben", page_size=5, page_token=token)
    )
    assert refusal.reason == "PAGE_TOKEN_MISMATCH"


async def test_recommend_unknown_tenant(service: Service):
    refusal = await service.refused("Recommend", RecommendRequest(), tenant="nobody")
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")


async def test_recommend_without_tenant_takes_the_only_one_or_asks(library: Service):
    answer = await library.call("Recommend", RecommendRequest(page_size=3), tenant=None)
    assert len(answer.items) == 3
    await library.make_tenant("b")
    library.deps.tenants._only = None
    refusal = await library.refused("Recommend", RecommendRequest(), tenant=None)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "TENANT_REQUIRED")
    assert "x-tenant-id" in refusal.fields


async def test_batch_recommend_mixes_answers_and_errors(library: Service):
    request = recommendation_pb2.BatchRecommendRequest(
        requests=[
            RecommendRequest(user_id="ada", page_size=3),
            RecommendRequest(page_size=-1),
            RecommendRequest(scenario="x"),
        ]
    )
    results = (await library.call("BatchRecommend", request)).results
    assert len(results[0].response.items) == 3
    assert (results[1].error.index, results[1].error.field) == (1, "page_size")
    assert results[2].error.reason == "UNIMPLEMENTED"


async def test_two_tenants_never_see_one_another(library: Service):
    await library.make_tenant("b")
    await library.did("ada", "b00")
    assert ids(await library.recommend("ada", tenant="b")) == []
    await library.put("only-b", tenant="b", genres=["sf"])
    assert ids(await library.recommend("ada", tenant="b")) == ["only-b"]
    assert "only-b" not in ids(await library.recommend("ada", page_size=100))


async def test_recommend_user_who_has_seen_everything_gets_something(service: Service):
    await service.put("only", genres=["sf"])
    await service.did("ada", "only")
    assert ids(await service.recommend("ada")) == ["only"]
    assert ids(await service.recommend("ada", exclude=[book("only")])) == []
