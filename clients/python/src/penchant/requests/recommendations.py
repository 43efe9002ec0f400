"""Requests of RecommendationService."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from penchant.requests.parts import Ref, duration, entity_ref, field_mask, one_of
from penchant.v1 import recommendation_pb2 as recommendations


def _boosts(factors: Mapping[str, float]) -> list[recommendations.Boost]:
    return [recommendations.Boost(filter=text, factor=factor) for text, factor in factors.items()]


def recommend(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    context_entities: Iterable[Ref] = (),
    entity_type: str = "",
    page_size: int = 0,
    page_token: str = "",
    filter: str = "",
    exclude: Iterable[Ref] = (),
    include_seen: bool = False,
    boosts: Mapping[str, float] | None = None,
    diversity: float = 0.0,
    min_score: float | None = None,
    attributes: Sequence[str] | None = None,
    explain: bool = False,
    at_least_as_fresh: str = "",
    record: bool = False,
    max_staleness: timedelta | None = None,
) -> recommendations.RecommendRequest:
    """Entities for a user, a session or a context, best first, with reasons.

    Args:
        user_id: for whom; or `session_id`; or neither, for what is popular and fits the context.
        session_id: an anonymous session.
        context_entities: what the user looks at now.
        entity_type: only this type; all but "user" when empty.
        page_size: how many items, 20 when 0.
        page_token: `next_page_token` of the answer before.
        filter: an AIP-160 expression, such as `genre = "sf" AND year >= 1990`.
        exclude: never these.
        include_seen: also what the user already knows.
        boosts: score factors by filter expression; below 1 demotes.
        diversity: 0 is score alone, 1 variety alone.
        min_score: drops items below it.
        attributes: the top-level attributes to return; all when None, none when empty.
        explain: adds `source_scores` and `explanation`.
        at_least_as_fresh: the freshness token of an ingest that the answer must know of.
        record: keep what the answer is made from, for `get_recommendation`.
        max_staleness: an answer made at most that long ago will do, though something has changed
            since; up to an hour. Not together with `at_least_as_fresh`.
    """
    return recommendations.RecommendRequest(
        **one_of(user_id=user_id, session_id=session_id),
        context_entities=map(entity_ref, context_entities),
        entity_type=entity_type,
        page_size=page_size,
        page_token=page_token,
        filter=filter,
        exclude=map(entity_ref, exclude),
        include_seen=include_seen,
        boosts=_boosts(boosts or {}),
        diversity=diversity,
        min_score=min_score,
        attribute_mask=field_mask(attributes),
        explain=explain,
        at_least_as_fresh=at_least_as_fresh,
        record=record,
        max_staleness=duration(max_staleness),
    )


def get_recommendation(recommendation_id: str) -> recommendations.GetRecommendationRequest:
    """A past answer with what it was made from; NotFound when it is not kept."""
    return recommendations.GetRecommendationRequest(recommendation_id=recommendation_id)


def replay_recommendation(recommendation_id: str) -> recommendations.ReplayRecommendationRequest:
    """A past answer made anew from what was kept of it; NotFound when it is not kept."""
    return recommendations.ReplayRecommendationRequest(recommendation_id=recommendation_id)


def explain(
    recommendation_id: str, entity_type: str, entity_id: str
) -> recommendations.ExplainRequest:
    """Why an entity stands in a past answer, or does not; NotFound when that is not kept."""
    return recommendations.ExplainRequest(
        recommendation_id=recommendation_id, entity=entity_ref((entity_type, entity_id))
    )


def batch_recommend(
    requests: Iterable[recommendations.RecommendRequest],
) -> recommendations.BatchRecommendRequest:
    """Up to 100 answers in one call; each succeeds or fails by itself.

    Args:
        requests: made by `penchant.requests.recommend(...)`.
    """
    return recommendations.BatchRecommendRequest(requests=requests)


def similar_entities(
    entity_type: str,
    entity_id: str,
    *,
    answer_type: str = "",
    page_size: int = 0,
    page_token: str = "",
    filter: str = "",
    exclude: Iterable[Ref] = (),
    min_score: float | None = None,
    attributes: Sequence[str] | None = None,
    explain: bool = False,
) -> recommendations.SimilarEntitiesRequest:
    """Entities like a given one.

    Args:
        entity_type: the type of the given entity.
        entity_id: its id.
        answer_type: the type of the answers; the same type when empty.
        page_size: how many items, 20 when 0.
        page_token: `next_page_token` of the answer before.
        filter: an AIP-160 expression.
        exclude: never these.
        min_score: drops items below it.
        attributes: the top-level attributes to return; all when None, none when empty.
        explain: adds `source_scores`.
    """
    return recommendations.SimilarEntitiesRequest(
        entity=entity_ref((entity_type, entity_id)),
        entity_type=answer_type,
        page_size=page_size,
        page_token=page_token,
        filter=filter,
        exclude=map(entity_ref, exclude),
        min_score=min_score,
        attribute_mask=field_mask(attributes),
        explain=explain,
    )


def similar_users(
    user_id: str, *, page_size: int = 0, page_token: str = "", min_score: float | None = None
) -> recommendations.SimilarUsersRequest:
    """Users whose preferences point the same way; `page_size` 20 when 0."""
    return recommendations.SimilarUsersRequest(
        user_id=user_id, page_size=page_size, page_token=page_token, min_score=min_score
    )


def recommend_users(
    entity_type: str,
    entity_id: str,
    *,
    page_size: int = 0,
    page_token: str = "",
    include_seen: bool = False,
    min_score: float | None = None,
) -> recommendations.RecommendUsersRequest:
    """An audience for an entity: the users most likely to care."""
    return recommendations.RecommendUsersRequest(
        entity=entity_ref((entity_type, entity_id)),
        page_size=page_size,
        page_token=page_token,
        include_seen=include_seen,
        min_score=min_score,
    )


def trending(
    *,
    entity_type: str = "",
    page_size: int = 0,
    page_token: str = "",
    filter: str = "",
    attributes: Sequence[str] | None = None,
) -> recommendations.TrendingRequest:
    """What gathered the most interactions lately."""
    return recommendations.TrendingRequest(
        entity_type=entity_type,
        page_size=page_size,
        page_token=page_token,
        filter=filter,
        attribute_mask=field_mask(attributes),
    )


def rerank(
    candidates: Iterable[Ref],
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    context_entities: Iterable[Ref] = (),
    boosts: Mapping[str, float] | None = None,
    diversity: float = 0.0,
    attributes: Sequence[str] | None = None,
    explain: bool = False,
) -> recommendations.RerankRequest:
    """The caller's own list of entities in the order that suits a user."""
    return recommendations.RerankRequest(
        **one_of(user_id=user_id, session_id=session_id),
        entities=map(entity_ref, candidates),
        context_entities=map(entity_ref, context_entities),
        boosts=_boosts(boosts or {}),
        diversity=diversity,
        attribute_mask=field_mask(attributes),
        explain=explain,
    )
