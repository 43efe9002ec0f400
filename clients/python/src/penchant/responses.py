"""Plain values from response messages."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from penchant import errors, values
from penchant.v1 import admin_pb2 as admin
from penchant.v1 import common_pb2 as common
from penchant.v1 import demand_pb2 as demand
from penchant.v1 import embedding_pb2 as embeddings
from penchant.v1 import entity_pb2 as entities
from penchant.v1 import interaction_pb2 as interactions
from penchant.v1 import recommendation_pb2 as recommendations

M = TypeVar("M", bound=Message)

# a Struct holds every number as a double, which is exact for whole numbers below this
_EXACT = 2.0**53


def json_object(message: Struct) -> values.JsonObject:
    """A Struct as a dict; whole numbers come back as int."""
    return {key: _json_value(value) for key, value in message.fields.items()}


def _json_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if abs(number) < _EXACT and number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return json_object(value.struct_value)
        case "list_value":
            return [_json_value(item) for item in value.list_value.values]
        case _:
            return None


def entity_ref(message: common.EntityRef) -> values.EntityRef:
    """The name of an entity."""
    return values.EntityRef(message.entity_type, message.entity_id)


def instant(message: Message, field: str) -> datetime | None:
    """A message's timestamp; None where it is absent."""
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(tzinfo=UTC)


def _row_error(message: common.RowError) -> values.RowError:
    return values.RowError(
        index=message.index,
        code=errors.status_code(message.code),
        reason=message.reason,
        field=message.field,
        message=message.message,
    )


def recommendation(message: recommendations.RecommendedEntity) -> values.Recommendation:
    """One item of an answer."""
    return values.Recommendation(
        entity=entity_ref(message.entity),
        score=message.score,
        reasons=tuple(
            values.Reason(reason.source, tuple(map(entity_ref, reason.because_of)), reason.share)
            for reason in message.reasons
        ),
        attributes=json_object(message.attributes),
        source_scores=source_scores(message.source_scores),
    )


def source_scores(
    messages: Iterable[recommendations.SourceScore],
) -> tuple[values.SourceScore, ...]:
    """What each source said of an item."""
    return tuple(
        values.SourceScore(score.source, score.raw, score.normalized, score.weight)
        for score in messages
    )


def explanation(message: recommendations.Explanation) -> values.Explanation:
    """How an answer came about."""
    return values.Explanation(
        phase=message.phase,
        interaction_count=message.interaction_count,
        candidate_counts=dict(message.candidate_counts),
        cached=message.cached,
    )


def _items(
    messages: Iterable[recommendations.RecommendedEntity],
) -> tuple[values.Recommendation, ...]:
    return tuple(map(recommendation, messages))


def recommend(message: recommendations.RecommendResponse) -> values.Recommendations:
    """The answer of Recommend."""
    return values.Recommendations(
        items=_items(message.items),
        recommendation_id=message.recommendation_id,
        model_versions=tuple(message.model_versions),
        degraded=tuple(message.degraded),
        next_page_token=message.next_page_token,
        freshness_token=message.freshness_token,
        explanation=explanation(message.explanation) if message.HasField("explanation") else None,
        stale=message.stale,
    )


def batch_recommend(
    message: recommendations.BatchRecommendResponse,
) -> list[values.Recommendations | errors.PenchantError]:
    """The answers in the order of the requests; a failed one is the error, not raised."""
    return [
        errors.from_row_error(result.error)
        if result.WhichOneof("result") == "error"
        else recommend(result.response)
        for result in message.results
    ]


def similar_entities(message: recommendations.SimilarEntitiesResponse) -> values.Recommendations:
    """The answer of SimilarEntities."""
    return values.Recommendations(
        items=_items(message.items),
        recommendation_id=message.recommendation_id,
        degraded=tuple(message.degraded),
        next_page_token=message.next_page_token,
    )


def scored_users(
    message: recommendations.SimilarUsersResponse | recommendations.RecommendUsersResponse,
) -> values.ScoredUsers:
    """The answer of SimilarUsers and RecommendUsers."""
    return values.ScoredUsers(
        users=tuple(
            values.ScoredUser(user.user_id, user.score, user.interaction_count)
            for user in message.users
        ),
        next_page_token=message.next_page_token,
    )


def trending(message: recommendations.TrendingResponse) -> values.TrendingEntities:
    """The answer of Trending."""
    return values.TrendingEntities(
        items=_items(message.items),
        window_start=instant(message, "window_start"),
        window_end=instant(message, "window_end"),
        next_page_token=message.next_page_token,
        degraded=tuple(message.degraded),
    )


def rerank(message: recommendations.RerankResponse) -> values.Reranked:
    """The answer of Rerank."""
    return values.Reranked(
        items=_items(message.items),
        missing=tuple(map(entity_ref, message.missing)),
        recommendation_id=message.recommendation_id,
    )


def entity(message: entities.Entity) -> values.Entity:
    """An entity as stored."""
    return values.Entity(
        entity=entity_ref(message.entity),
        attributes=json_object(message.attributes),
        feature_vector=tuple(message.feature_vector),
        hidden=message.hidden,
        available_from=instant(message, "available_from"),
        available_until=instant(message, "available_until"),
        created_at=instant(message, "created_at"),
        updated_at=instant(message, "updated_at"),
        stub=message.stub,
    )


def upserted(message: entities.UpsertEntityResponse) -> values.Upserted:
    """The answer of UpsertEntity."""
    return values.Upserted(entity(message.entity), message.created)


def batch_upserted(message: entities.BatchUpsertEntitiesResponse) -> values.BatchUpserted:
    """The answer of BatchUpsertEntities."""
    return values.BatchUpserted(message.upserted_count, tuple(map(_row_error, message.errors)))


def interaction(message: interactions.Interaction) -> values.Interaction:
    """An interaction as stored."""
    return values.Interaction(
        user_id=message.user_id or None,
        entity_type=message.entity.entity_type,
        entity_id=message.entity.entity_id,
        interaction_type=message.interaction_type,
        session_id=message.session_id or None,
        interaction_id=message.interaction_id,
        weight=message.weight if message.HasField("weight") else None,
        metadata=json_object(message.metadata),
        timestamp=instant(message, "timestamp"),
        recommendation_id=message.recommendation_id,
        position=message.position if message.HasField("position") else None,
        received_at=instant(message, "received_at"),
    )


def ack(message: interactions.IngestInteractionResponse) -> values.Ack:
    """The answer of IngestInteraction."""
    return values.Ack(
        interaction_id=message.ack.interaction_id,
        received_at=instant(message.ack, "received_at"),
        freshness_token=message.ack.freshness_token,
    )


def batch_ack(message: interactions.IngestInteractionsResponse) -> values.BatchAck:
    """The answer to one batch of a stream."""
    return values.BatchAck(
        sequence=message.sequence,
        stored_count=message.stored_count,
        duplicate_count=message.duplicate_count,
        errors=tuple(map(_row_error, message.errors)),
        freshness_token=message.freshness_token,
    )


def deleted(message: interactions.DeleteInteractionsResponse) -> values.Changed:
    """The answer of DeleteInteractions."""
    return values.Changed(message.deleted_count, message.freshness_token)


def merged(message: interactions.MergeUsersResponse) -> values.Changed:
    """The answer of MergeUsers."""
    return values.Changed(message.moved_count, message.freshness_token)


def embedding(message: embeddings.Embedding) -> values.Embedding:
    """An embedding as stored."""
    return values.Embedding(
        entity_type=message.entity.entity_type,
        entity_id=message.entity.entity_id,
        values=tuple(message.values),
        version=message.version,
        update_time=instant(message, "update_time"),
    )


def embedding_stats(message: embeddings.GetEmbeddingStatsResponse) -> list[values.EmbeddingStats]:
    """What each set holds."""
    return [
        values.EmbeddingStats(
            entity_type=stats.entity_type,
            version=stats.version,
            dimension=stats.dimension,
            count=stats.count,
            size_bytes=stats.size_bytes,
            last_update_time=instant(stats, "last_update_time"),
        )
        for stats in message.stats
    ]


def _demand_points(messages: Iterable[demand.DemandPoint]) -> tuple[values.DemandPoint, ...]:
    return tuple(
        values.DemandPoint(point.start.ToDatetime(tzinfo=UTC), point.value, point.low, point.high)
        for point in messages
    )


def demand_forecast(message: demand.ForecastDemandResponse) -> values.DemandForecast:
    """The answer of ForecastDemand."""
    return values.DemandForecast(
        points=_demand_points(message.points),
        method=message.method,
        errors=dict(message.errors),
        history=_demand_points(message.history),
    )


def tenant(
    message: admin.CreateTenantResponse | admin.GetTenantResponse | admin.UpdateTenantResponse,
) -> admin.Tenant:
    """The tenant that an answer carries."""
    return message.tenant


def tenants(message: admin.ListTenantsResponse) -> Iterable[admin.Tenant]:
    """The tenants of a page."""
    return message.tenants


def audit_events(message: admin.ListAuditEventsResponse) -> Iterable[admin.AuditEvent]:
    """The events of a page."""
    return message.events


def interaction_type(message: admin.SetInteractionTypeResponse) -> admin.InteractionType:
    """The type as stored."""
    return message.interaction_type


def interaction_types(message: admin.ListInteractionTypesResponse) -> list[admin.InteractionType]:
    """The types of a tenant."""
    return list(message.interaction_types)


def migrations(message: admin.ListMigrationsResponse) -> list[admin.Migration]:
    """The applied migrations."""
    return list(message.migrations)


def applied_versions(message: admin.RunMigrationsResponse) -> list[int]:
    """The versions that a call applied."""
    return list(message.applied_versions)


def users_count(message: admin.InvalidateCacheResponse) -> int:
    """How many users' answers were made unusable; 0 for a whole tenant's."""
    return message.users_count


def unchanged(message: M) -> M:
    """A message that is given to the caller as it is."""
    return message


def nothing(_: Message) -> None:
    """The answer of calls that have none."""
