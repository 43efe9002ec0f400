"""Past answers, replays and explanations as messages."""

import orjson
from penchant.v1 import recommendation_pb2 as pb

from engine.answer_replay import KeptAnswer, Outcome, Replay, boosts, history, scored
from server.convert import fill_timestamp, json_to_struct
from server.recommendations import render_item, render_items, render_source_scores

_NO_ATTRIBUTES: frozenset[str] = frozenset()


def render_logged(kept: KeptAnswer, target: pb.LoggedRecommendation) -> None:
    """Fills the message of a past answer."""
    logged, answer = kept.logged, kept.logged.answer
    target.recommendation_id = answer.recommendation_id
    fill_timestamp(target.answered_at, logged.answered_at)
    fill_timestamp(target.expires_at, kept.expires_at)
    target.request.ParseFromString(logged.query.asked)
    render_items(answer.items, target.items, _NO_ATTRIBUTES)
    target.model_versions.extend(answer.model_versions)
    target.explanation.phase = answer.phase
    target.explanation.interaction_count = answer.interaction_count
    target.explanation.candidate_counts.update(answer.candidate_counts)
    items = scored(logged)
    for candidate, boost in zip(logged.candidates, boosts(logged), strict=True):
        added = target.candidates.add(boost=boost)
        added.entity.entity_type = candidate.entity_type
        added.entity.entity_id = candidate.entity_id
        render_source_scores(items[candidate.entity_no].source_scores, added.source_scores)
    for entity_type, entity_id in history(logged):
        target.history.add(entity_type=entity_type, entity_id=entity_id)
    target.seen_excluded = logged.seen_excluded
    settings = {"source_weights": dict(logged.weights), **logged.settings}
    json_to_struct(orjson.dumps(settings).decode(), target.settings)


def render_replay(replay: Replay) -> pb.ReplayRecommendationResponse:
    """A ReplayRecommendation response."""
    response = pb.ReplayRecommendationResponse(
        identical=not replay.differences, differences=replay.differences
    )
    render_items(replay.items, response.items, _NO_ATTRIBUTES)
    return response


def render_outcome(outcome: Outcome) -> pb.ExplainResponse:
    """An Explain response."""
    response = pb.ExplainResponse(
        outcome=outcome.word, explanation=outcome.sentence, position=outcome.position
    )
    if outcome.item is not None:
        render_item(outcome.item, response.item)
    return response
