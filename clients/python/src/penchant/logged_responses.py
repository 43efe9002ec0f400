"""Plain values from the messages about past answers."""

from penchant import logged_values as values
from penchant.responses import (
    entity_ref,
    explanation,
    instant,
    json_object,
    recommendation,
    source_scores,
)
from penchant.v1 import recommendation_pb2 as recommendations


def logged(message: recommendations.GetRecommendationResponse) -> values.LoggedRecommendation:
    """The answer of GetRecommendation."""
    past = message.recommendation
    return values.LoggedRecommendation(
        recommendation_id=past.recommendation_id,
        answered_at=instant(past, "answered_at"),
        expires_at=instant(past, "expires_at"),
        request=past.request,
        items=tuple(map(recommendation, past.items)),
        model_versions=tuple(past.model_versions),
        explanation=explanation(past.explanation),
        candidates=tuple(
            values.LoggedCandidate(
                entity_ref(candidate.entity),
                source_scores(candidate.source_scores),
                candidate.boost,
            )
            for candidate in past.candidates
        ),
        history=tuple(map(entity_ref, past.history)),
        seen_excluded=past.seen_excluded,
        settings=json_object(past.settings),
    )


def replay(message: recommendations.ReplayRecommendationResponse) -> values.Replay:
    """The answer of ReplayRecommendation."""
    return values.Replay(
        items=tuple(map(recommendation, message.items)),
        identical=message.identical,
        differences=tuple(message.differences),
    )


def outcome(message: recommendations.ExplainResponse) -> values.Outcome:
    """The answer of Explain."""
    return values.Outcome(
        outcome=message.outcome,
        explanation=message.explanation,
        position=message.position if message.HasField("position") else None,
        item=recommendation(message.item) if message.HasField("item") else None,
    )
