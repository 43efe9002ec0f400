"""Recommendation requests parsed and answers rendered."""

from collections.abc import Iterable, Sequence

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from penchant.v1 import recommendation_pb2 as pb
from penchant.v1.common_pb2 import EntityRef

from engine.answers import Answer, Item, SourceScore
from engine.filters.compiler import compile_filter
from engine.identifiers import check_id, check_page_size
from engine.ingest import subject
from engine.requests import (
    DEFAULT_PAGE_SIZE,
    MAX_CONTEXT,
    MAX_EXCLUDED,
    Boost,
    RecommendQuery,
    check_boosts,
    check_finite,
    check_keys,
    check_share,
)
from server.attributes import fill_attributes
from server.convert import json_to_struct, to_seconds
from server.paging import hash_of
from storage.entities import EntityKey
from storage.exceptions import FieldViolation, InvalidArgument, Unimplemented
from storage.tenants import Tenant

_MAX_LISTED = 1000
_MAX_STALENESS_SECS = 3600.0
_OF_FRESHNESS = frozenset({"at_least_as_fresh", "max_staleness"})
"""How fresh an answer has to be does not change it, and must not split the cache."""

_LATER = ("scenario", "algorithm", "rotation")
"""Fields of RecommendRequest that a later version fills."""


def keys_of(
    refs: Sequence[EntityRef], field: str, most: int = MAX_EXCLUDED
) -> tuple[EntityKey, ...]:
    """So many entity names at most, checked."""
    return check_keys([(r.entity_type, r.entity_id) for r in refs], most, field) if refs else ()


def parse_recommend(request: pb.RecommendRequest, tenant: Tenant, raw: bytes) -> RecommendQuery:
    """A Recommend request, checked.

    Args:
        raw: the request as it came.

    Raises:
        InvalidArgument: a field is wrong. Unimplemented: a field that is not filled yet is set.
    """
    later = [FieldViolation(name, "is not filled yet") for name in _LATER if getattr(request, name)]
    if later:
        names = ", ".join(violation.field for violation in later)
        raise Unimplemented(f"This version does not fill: {names}.", violations=later)
    return RecommendQuery(
        user_id=_subject(request),
        context=keys_of(request.context_entities, "context_entities", MAX_CONTEXT),
        entity_type=check_id(request.entity_type, "entity_type") if request.entity_type else "",
        page_size=check_page_size(request.page_size, DEFAULT_PAGE_SIZE),
        page_token=request.page_token,
        filter=compile_filter(request.filter),
        exclude=keys_of(request.exclude, "exclude"),
        include_seen=request.include_seen,
        boosts=_boosts(request.boosts),
        diversity=check_share(request.diversity, "diversity"),
        min_score=check_finite(request.min_score, "min_score")
        if request.HasField("min_score")
        else None,
        explain=request.explain,
        model_version=_model_version(request.model_version) if request.model_version else None,
        record=request.record,
        asked=raw,
        request_hash=hash_of(request, tenant.tenant_id, _OF_FRESHNESS),
    )


def _boosts(boosts: Sequence[pb.Boost]) -> tuple[Boost, ...]:
    return check_boosts([(boost.filter, boost.factor) for boost in boosts]) if boosts else ()


def _model_version(text: str) -> tuple[str, str]:
    name, _, version = text.partition("@")
    if not (name and version):
        raise InvalidArgument.field("model_version", "must be name@version, such as main@latest")
    return name, version


def staleness_of(request: pb.RecommendRequest) -> float:
    """The age in seconds up to which the caller takes an answer of before a change; 0: none.

    Raises:
        InvalidArgument: negative, above an hour, or beside a freshness token.
    """
    seconds = to_seconds(request.max_staleness)
    if not 0 <= seconds <= _MAX_STALENESS_SECS:
        raise InvalidArgument.field("max_staleness", "must be 0 to 3600 seconds")
    if seconds and request.at_least_as_fresh:
        raise InvalidArgument.field("max_staleness", "must not be set beside at_least_as_fresh")
    return seconds


def _subject(request: pb.RecommendRequest | pb.RerankRequest) -> str:
    which = request.WhichOneof("subject")
    if which is not None and not getattr(request, which):
        raise InvalidArgument.field(which, "must not be empty")
    return subject(request.user_id, request.session_id, required=False)


def parse_rerank(request: pb.RerankRequest) -> tuple[tuple[EntityKey, ...], RecommendQuery]:
    """A Rerank request's list and query, checked."""
    if not request.entities:
        raise InvalidArgument.field("entities", f"must have 1 to {_MAX_LISTED} entries")
    listed = [(r.entity_type, r.entity_id) for r in request.entities]
    return check_keys(listed, _MAX_LISTED, "entities"), RecommendQuery(
        user_id=_subject(request),
        context=keys_of(request.context_entities, "context_entities", MAX_CONTEXT),
        boosts=_boosts(request.boosts),
        diversity=check_share(request.diversity, "diversity"),
        explain=request.explain,
    )


def mask_of(
    request: pb.RecommendRequest
    | pb.SimilarEntitiesRequest
    | pb.TrendingRequest
    | pb.RerankRequest,
) -> frozenset[str] | None:
    """The attributes to return; None for all of them."""
    if not request.HasField("attribute_mask"):
        return None
    return frozenset(path.removeprefix("attributes.") for path in request.attribute_mask.paths)


def render_items(
    items: Iterable[Item],
    target: RepeatedCompositeFieldContainer[pb.RecommendedEntity],
    mask: frozenset[str] | None,
) -> None:
    """Adds items to a response."""
    for item in items:
        rendered = target.add()
        render_item(item, rendered)
        if mask is None:
            fill_attributes(item.attributes, rendered.attributes)
        elif mask:
            json_to_struct(item.attributes, rendered.attributes, mask)


def render_item(item: Item, target: pb.RecommendedEntity) -> None:
    """Fills an item's message, without attributes."""
    target.score = item.score
    # Field by field: a message built with keywords takes half as long again.
    entity = target.entity
    entity.entity_type, entity.entity_id = item.entity_type, item.entity_id
    for reason in item.reasons:
        added = target.reasons.add()
        added.source, added.share = reason.source, reason.share
        for entity_type, entity_id in reason.because_of:
            named = added.because_of.add()
            named.entity_type, named.entity_id = entity_type, entity_id
    if item.source_scores:
        render_source_scores(item.source_scores, target.source_scores)


def render_source_scores(
    scores: Iterable[SourceScore], target: RepeatedCompositeFieldContainer[pb.SourceScore]
) -> None:
    """Adds what each source said of an item."""
    for score in scores:
        target.add(
            source=score.source,
            raw=score.raw,
            normalized=score.normalized,
            weight=score.weight,
        )


def render_answer(answer: Answer, request: pb.RecommendRequest) -> pb.RecommendResponse:
    """A Recommend response without its tokens."""
    response = pb.RecommendResponse(
        recommendation_id=answer.recommendation_id,
        degraded=answer.degraded,
        model_versions=answer.model_versions,
    )
    render_items(answer.items, response.items, mask_of(request))
    if request.explain:
        explanation = response.explanation
        explanation.phase = answer.phase
        explanation.interaction_count = answer.interaction_count
        explanation.cached = answer.cached
        explanation.candidate_counts.update(answer.candidate_counts)
    return response
