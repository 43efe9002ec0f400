"""What the clients ask and tell about past answers."""

from datetime import UTC, datetime

from penchant import EntityRef, Explanation, Outcome, Recommendation, SourceScore, requests
from penchant import logged_responses as responses
from penchant.v1 import recommendation_pb2 as pb
from penchant.v1.common_pb2 import EntityRef as Ref

BOOK = Ref(entity_type="book", entity_id="b1")
SCORE = pb.SourceScore(source="content", raw=0.5, normalized=1, weight=0.25)


def test_requests_name_the_answer_and_the_entity() -> None:
    assert requests.recommend(user_id="u", record=True).record
    assert requests.get_recommendation("r").recommendation_id == "r"
    assert requests.replay_recommendation("r").recommendation_id == "r"
    assert requests.explain("r", "book", "b1") == pb.ExplainRequest(
        recommendation_id="r", entity=BOOK
    )


def test_a_past_answer_has_all_that_it_was_made_from() -> None:
    message = pb.LoggedRecommendation(
        recommendation_id="r",
        request=pb.RecommendRequest(user_id="u", record=True),
        items=[pb.RecommendedEntity(entity=BOOK, score=0.25)],
        model_versions=["m@1"],
        explanation=pb.Explanation(phase="warm", candidate_counts={"content": 1}),
        candidates=[pb.LoggedCandidate(entity=BOOK, source_scores=[SCORE], boost=2)],
        history=[BOOK],
        seen_excluded=True,
    )
    message.answered_at.FromDatetime(datetime(2026, 1, 2))
    message.settings.update({"tenant_version": 7, "source_weights": {"content": 0.25}})
    past = responses.logged(pb.GetRecommendationResponse(recommendation=message))
    assert (past.recommendation_id, past.model_versions, past.seen_excluded) == (
        "r",
        ("m@1",),
        True,
    )
    assert (past.answered_at, past.expires_at) == (datetime(2026, 1, 2, tzinfo=UTC), None)
    assert past.request.user_id == "u"
    assert [item.score for item in past] == [0.25]
    assert len(past) == 1
    assert past.explanation == Explanation("warm", 0, {"content": 1}, cached=False)
    [candidate] = past.candidates
    assert candidate.entity == EntityRef("book", "b1")
    assert candidate.source_scores == (SourceScore("content", 0.5, 1.0, 0.25),)
    assert candidate.boost == 2
    assert past.history == (EntityRef("book", "b1"),)
    assert past.settings == {"tenant_version": 7, "source_weights": {"content": 0.25}}


def test_a_replay_tells_its_differences() -> None:
    message = pb.ReplayRecommendationResponse(
        items=[pb.RecommendedEntity(entity=BOOK, score=1)], differences=["place 0 differs"]
    )
    again = responses.replay(message)
    assert (again.identical, again.differences) == (False, ("place 0 differs",))
    assert again.items == (Recommendation(EntityRef("book", "b1"), 1.0),)


def test_an_outcome_has_a_position_and_an_item_only_where_there_are() -> None:
    ranked = pb.ExplainResponse(
        outcome="recommended",
        explanation="first",
        position=0,
        item=pb.RecommendedEntity(entity=BOOK, score=1),
    )
    item = Recommendation(EntityRef("book", "b1"), 1.0)
    assert responses.outcome(ranked) == Outcome("recommended", "first", 0, item)
    absent = pb.ExplainResponse(outcome="no_candidate", explanation="hidden")
    assert responses.outcome(absent) == Outcome("no_candidate", "hidden", None, None)
