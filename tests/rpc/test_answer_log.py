"""Recorded answers: what is kept of them, their replay, and why an entity is in one."""

import asyncio
from typing import Any

import pytest
from penchant.v1 import recommendation_pb2 as pb

from server.settings import Settings
from storage.answer_log import AnswerLogStore
from storage.database import Database
from storage.tenants import TenantStore
from tests.rpc.conftest import Service, book, ids, running
from tests.rpc.test_recommend_models import Press


async def kept(service: Service, recommendation_id: str, tenant: str = "a") -> Any:
    request = pb.GetRecommendationRequest(recommendation_id=recommendation_id)
    return (await service.call("GetRecommendation", request, tenant)).recommendation


async def replayed(service: Service, recommendation_id: str) -> Any:
    request = pb.ReplayRecommendationRequest(recommendation_id=recommendation_id)
    return await service.call("ReplayRecommendation", request)


async def explained(service: Service, recommendation_id: str, entity_id: str) -> Any:
    request = pb.ExplainRequest(recommendation_id=recommendation_id, entity=book(entity_id))
    return await service.call("Explain", request)


def bare(items: Any) -> list[pb.RecommendedEntity]:
    """Items without their attributes."""
    copies = []
    for item in items:
        copies.append(pb.RecommendedEntity())
        copies[-1].CopyFrom(item)
        copies[-1].ClearField("attributes")
    return copies


async def reads(service: Service, user_id: str, *entity_ids: str) -> None:
    for entity_id in entity_ids:
        await service.did(user_id, entity_id)


REQUESTS: dict[str, dict[str, Any]] = {
    "nobody": {},
    "cold user": {"user_id": "cold"},
    "warm user": {"user_id": "ada"},
    "explained": {"user_id": "ada", "explain": True},
    "boosts": {
        "user_id": "ada",
        "boosts": [
            pb.Boost(filter='genres:"sf"', factor=1.7),
            pb.Boost(filter="year >= 1990", factor=0.3),
        ],
    },
    "diversity": {"user_id": "ada", "diversity": 0.6, "page_size": 5},
    "diversity of all": {"user_id": "ada", "diversity": 0.3, "page_size": 50},
    "least score": {"user_id": "ada", "min_score": 0.3},
    "filter": {"user_id": "ada", "filter": "year >= 1980"},
    "exclusions": {"user_id": "ada", "exclude": [book("b07"), book("b50")]},
    "context": {"user_id": "ada", "context_entities": [book("b10"), book("b11")]},
    "context of nobody": {"context_entities": [book("b10")]},
    "seen ones too": {"user_id": "ada", "include_seen": True},
    "session": {"session_id": "s1", "page_size": 3},
}


@pytest.fixture
async def readers(library: Service) -> Service:
    """The library after ada read much, bob the same and more, and the jobs ran."""
    await reads(library, "ada", *[f"b{n:02}" for n in range(0, 24, 3)])
    await reads(library, "bob", *[f"b{n:02}" for n in range(0, 40, 2)])
    await reads(library, "cold", "b01")
    await library.run_jobs()
    return library


async def test_replay_of_a_recorded_answer_is_identical(readers: Service) -> None:
    for name, fields in REQUESTS.items():
        user_id = fields.get("user_id", "")
        rest = {key: value for key, value in fields.items() if key != "user_id"}
        answer = await readers.recommend(user_id, record=True, **rest)
        again = await replayed(readers, answer.recommendation_id)
        assert (name, again.identical, list(again.differences)) == (name, True, [])
        page = len(answer.items)
        assert (name, bare(again.items)[:page]) == (name, bare(answer.items))


async def test_replay_with_a_model_is_identical(library: Service) -> None:
    deps = library.deps
    tenant = await TenantStore(deps.database, deps.maintenance).get("a")
    press = Press(library, tenant)
    await press.store.create(tenant, "m", algorithm="item_knn")
    await press.version({("b00", "b50"): 1.0, ("b00", "b51"): 2.0, ("b01", "b51"): 3.0})
    await reads(library, "ada", "b00", "b01")
    answer = await library.recommend("ada", record=True)
    past = await kept(library, answer.recommendation_id)
    assert list(past.model_versions) == list(answer.model_versions) == ["m@1"]
    assert (await replayed(library, answer.recommendation_id)).identical
    assert bare(past.items)[:20] == bare(answer.items)


async def test_a_recorded_answer_tells_what_it_was_made_from(readers: Service) -> None:
    fields: dict[str, Any] = {
        "page_size": 4,
        "filter": "year >= 1980",
        "explain": True,
        "boosts": [pb.Boost(filter='genres:"sf"', factor=2)],
    }
    answer = await readers.recommend("ada", record=True, **fields)
    past = await kept(readers, answer.recommendation_id)
    assert past.recommendation_id == answer.recommendation_id
    assert past.request == pb.RecommendRequest(user_id="ada", record=True, **fields)
    assert bare(past.items)[:4] == bare(answer.items)
    assert len(past.items) > 4
    assert past.explanation.phase == answer.explanation.phase == "warm"
    assert past.explanation.candidate_counts == answer.explanation.candidate_counts
    assert past.seen_excluded
    assert [ref.entity_id for ref in past.history] == [f"b{n:02}" for n in range(21, -1, -3)]
    assert past.settings["cold_start_interactions"] == 5
    assert past.settings["source_weights"]["content"] > 0
    assert past.expires_at.seconds - past.answered_at.seconds == 7 * 86400
    said = {c.entity.entity_id: c for c in past.candidates}
    assert {c.boost for c in past.candidates} == {1.0, 2.0}
    for item in past.items:
        candidate = said[item.entity.entity_id]
        assert list(candidate.source_scores) == list(item.source_scores)
        total = sum(s.normalized * s.weight for s in candidate.source_scores)
        assert item.score == pytest.approx(min(total, 1.0) * candidate.boost)


async def test_explain_says_what_became_of_an_entity(readers: Service) -> None:
    answer = await readers.recommend(
        "ada", record=True, page_size=3, min_score=0.3, exclude=[book("b07")]
    )
    past = await kept(readers, answer.recommendation_id)
    names = [item.entity.entity_id for item in past.items]
    below = next(c.entity.entity_id for c in past.candidates if c.entity.entity_id not in names)
    first = await explained(readers, answer.recommendation_id, names[0])
    assert (first.outcome, first.position, first.item.score) == (
        "recommended",
        0,
        answer.items[0].score,
    )
    assert first.item.reasons == answer.items[0].reasons
    assert "number 1 of" in first.explanation
    lower = await explained(readers, answer.recommendation_id, names[3])
    assert (lower.outcome, lower.position) == ("ranked_lower", 3)
    low = await explained(readers, answer.recommendation_id, below)
    assert (low.outcome, low.HasField("position")) == ("below_min_score", False)
    assert low.item.score < 0.3
    for entity_id, why in {"b07": "excludes", "b00": "seen", "none": "None of"}.items():
        absent = await explained(readers, answer.recommendation_id, entity_id)
        assert (absent.outcome, absent.HasField("item")) == ("no_candidate", False)
        assert why in absent.explanation


async def test_a_recorded_request_finds_its_answer_though_it_was_cached(library: Service) -> None:
    plain = await library.recommend("ada", explain=True)
    first = await library.recommend("ada", explain=True, record=True)
    second = await library.recommend("ada", explain=True, record=True)
    assert second.explanation.cached
    assert second.recommendation_id == first.recommendation_id != plain.recommendation_id
    assert (await kept(library, second.recommendation_id)).request.record


@pytest.mark.parametrize("method", ["GetRecommendation", "ReplayRecommendation", "Explain"])
async def test_an_answer_that_is_not_kept_is_refused(library: Service, method: str) -> None:
    await library.make_tenant("b")
    answer = await library.recommend("ada", record=True)
    plain = await library.recommend("eve")
    entity = {"entity": book()} if method == "Explain" else {}
    request = getattr(pb, f"{method}Request")
    mine = request(recommendation_id=answer.recommendation_id, **entity)
    await library.call(method, mine)
    refusals = [
        await library.refused(method, mine, tenant="b"),
        await library.refused(method, request(recommendation_id="none", **entity)),
        await library.refused(method, request(recommendation_id=plain.recommendation_id, **entity)),
    ]
    async with library.deps.maintenance.connection(None) as connection:
        await connection.execute("UPDATE answer_log SET expires_at = now()")
    refusals.append(await library.refused(method, mine))
    assert {(r.code, r.reason, r.message) for r in refusals} == {
        (
            "NOT_FOUND",
            "RECOMMENDATION_NOT_FOUND",
            "No answer of that recommendation_id is kept.",
        )
    }
    empty = await library.refused(method, request(**entity))
    assert (empty.code, list(empty.fields)) == ("INVALID_ARGUMENT", ["recommendation_id"])


async def test_explain_without_an_entity_is_refused(library: Service) -> None:
    refusal = await library.refused("Explain", pb.ExplainRequest(recommendation_id="r"))
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["entity.entity_type"])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 3)])
async def test_a_share_of_the_answers_is_logged_unasked(
    settings: Settings, database: Database, share: float, expected: int
) -> None:
    async with running(settings.model_copy(update={"answer_log_sample": share})) as service:
        await service.put("b00")
        for _ in range(2):
            answers = [await service.recommend(user) for user in ("ada", "bob", "eve")]
            assert [ids(answer) for answer in answers] == [["b00"]] * 3
    # What waited was written when the worker ended.
    log = AnswerLogStore(database)
    assert sum([await log.count_user("a", user) for user in ("ada", "bob", "eve")]) == expected


async def test_batched_requests_are_recorded_one_by_one(library: Service) -> None:
    requests = [pb.RecommendRequest(user_id=u, record=True) for u in ("ada", "bob", "eve")]
    batch = await library.call("BatchRecommend", pb.BatchRecommendRequest(requests=requests))
    found = await asyncio.gather(
        *(kept(library, result.response.recommendation_id) for result in batch.results)
    )
    assert [past.request.user_id for past in found] == ["ada", "bob", "eve"]


async def test_an_answer_that_cannot_be_recorded_is_given_all_the_same(library: Service) -> None:
    await library.deps.answer_writer.close()
    answer = await library.recommend("ada", record=True, explain=True)
    assert len(answer.items) == 20
    assert list(answer.degraded) == ["answer_log"]
    again = await library.recommend("ada", record=True, explain=True)
    assert not again.explanation.cached
