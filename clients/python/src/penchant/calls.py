"""Every unary call once, for both clients: which method, how to ask, how to read the answer."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, ParamSpec, Protocol, TypeVar

from penchant import logged_responses, requests, responses
from penchant.channel import Metadata
from penchant.requests import admin
from penchant.stubs import Stubs

Asked = ParamSpec("Asked")
Q = TypeVar("Q")
R = TypeVar("R")
V = TypeVar("V")
Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Method(Protocol[Q_contra, R_co]):
    """A unary method of a blocking stub."""

    def __call__(
        self, request: Q_contra, /, *, timeout: float | None, metadata: Metadata | None
    ) -> R_co:
        """Asks and waits."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked, Q, R, V]):
    """A unary call.

    Attributes:
        method: finds the method among the stubs.
        build: makes the request of the caller's arguments.
        render: makes the caller's value of the response.
    """

    method: Callable[[Stubs], Method[Q, R]]
    build: Callable[Asked, Q]
    render: Callable[[R], V]


class PagedRequest(Protocol):
    """A request that takes up where the page before ended."""

    page_token: str


class PagedResponse(Protocol):
    """A response that may say where the next page begins."""

    @property
    def next_page_token(self) -> str:
        """Empty on the last page."""


PagedQ = TypeVar("PagedQ", bound=PagedRequest)
PagedR = TypeVar("PagedR", bound=PagedResponse)


@dataclass(frozen=True, slots=True)
class Pages(Generic[Asked, PagedQ, PagedR, V]):
    """A list call that is repeated until its last page; `render` gives one page's values."""

    method: Callable[[Stubs], Method[PagedQ, PagedR]]
    build: Callable[Asked, PagedQ]
    render: Callable[[PagedR], Iterable[V]]


def document(function: Callable[..., object], name: str, build: Callable[..., object]) -> None:
    """Makes help() show a client's call with the arguments and the words of its builder."""
    function.__name__ = name
    function.__doc__ = build.__doc__
    signature = inspect.signature(build).replace(return_annotation=inspect.Signature.empty)
    function.__signature__ = signature  # type: ignore[attr-defined]  # inspect's own protocol


RECOMMEND = Call(
    lambda stubs: stubs.recommendation.Recommend, requests.recommend, responses.recommend
)
RECOMMEND_PAGES = Pages(
    lambda stubs: stubs.recommendation.Recommend,
    requests.recommend,
    lambda page: map(responses.recommendation, page.items),
)
BATCH_RECOMMEND = Call(
    lambda stubs: stubs.recommendation.BatchRecommend,
    requests.batch_recommend,
    responses.batch_recommend,
)
SIMILAR_ENTITIES = Call(
    lambda stubs: stubs.recommendation.SimilarEntities,
    requests.similar_entities,
    responses.similar_entities,
)
SIMILAR_USERS = Call(
    lambda stubs: stubs.recommendation.SimilarUsers,
    requests.similar_users,
    responses.scored_users,
)
RECOMMEND_USERS = Call(
    lambda stubs: stubs.recommendation.RecommendUsers,
    requests.recommend_users,
    responses.scored_users,
)
TRENDING = Call(lambda stubs: stubs.recommendation.Trending, requests.trending, responses.trending)
RERANK = Call(lambda stubs: stubs.recommendation.Rerank, requests.rerank, responses.rerank)
GET_RECOMMENDATION = Call(
    lambda stubs: stubs.recommendation.GetRecommendation,
    requests.get_recommendation,
    logged_responses.logged,
)
REPLAY_RECOMMENDATION = Call(
    lambda stubs: stubs.recommendation.ReplayRecommendation,
    requests.replay_recommendation,
    logged_responses.replay,
)
EXPLAIN = Call(
    lambda stubs: stubs.recommendation.Explain, requests.explain, logged_responses.outcome
)

UPSERT_ENTITY = Call(
    lambda stubs: stubs.entity.UpsertEntity, requests.upsert_entity, responses.upserted
)
GET_ENTITY = Call(
    lambda stubs: stubs.entity.GetEntity,
    requests.get_entity,
    lambda answer: responses.entity(answer.entity),
)
LIST_ENTITIES = Pages(
    lambda stubs: stubs.entity.ListEntities,
    requests.list_entities,
    lambda page: map(responses.entity, page.entities),
)
BATCH_UPSERT_ENTITIES = Call(
    lambda stubs: stubs.entity.BatchUpsertEntities,
    requests.batch_upsert_entities,
    responses.batch_upserted,
)
DELETE_ENTITY = Call(
    lambda stubs: stubs.entity.DeleteEntity, requests.delete_entity, responses.nothing
)

INGEST = Call(lambda stubs: stubs.interaction.IngestInteraction, requests.ingest, responses.ack)
LIST_INTERACTIONS = Pages(
    lambda stubs: stubs.interaction.ListInteractions,
    requests.list_interactions,
    lambda page: map(responses.interaction, page.interactions),
)
DELETE_INTERACTIONS = Call(
    lambda stubs: stubs.interaction.DeleteInteractions,
    requests.delete_interactions,
    responses.deleted,
)
MERGE_USERS = Call(
    lambda stubs: stubs.interaction.MergeUsers, requests.merge_users, responses.merged
)

SAVE_EMBEDDINGS = Call(
    lambda stubs: stubs.embedding.SaveEmbeddings,
    requests.save_embeddings,
    lambda answer: answer.saved,
)
GET_EMBEDDING = Call(
    lambda stubs: stubs.embedding.GetEmbedding,
    requests.get_embedding,
    lambda answer: responses.embedding(answer.embedding),
)
LIST_EMBEDDINGS = Pages(
    lambda stubs: stubs.embedding.ListEmbeddings,
    requests.list_embeddings,
    lambda page: map(responses.embedding, page.embeddings),
)
GET_EMBEDDING_STATS = Call(
    lambda stubs: stubs.embedding.GetEmbeddingStats,
    requests.embedding_stats,
    responses.embedding_stats,
)
CLEAN_UP_EMBEDDINGS = Call(
    lambda stubs: stubs.embedding.CleanUpEmbeddings,
    requests.clean_up_embeddings,
    lambda answer: answer.removed,
)
FORECAST_DEMAND = Call(
    lambda stubs: stubs.demand.ForecastDemand,
    requests.forecast_demand,
    responses.demand_forecast,
)

CREATE_TENANT = Call(lambda stubs: stubs.admin.CreateTenant, admin.create_tenant, responses.tenant)
GET_TENANT = Call(lambda stubs: stubs.admin.GetTenant, admin.get_tenant, responses.tenant)
LIST_TENANTS = Pages(lambda stubs: stubs.admin.ListTenants, admin.list_tenants, responses.tenants)
UPDATE_TENANT = Call(lambda stubs: stubs.admin.UpdateTenant, admin.update_tenant, responses.tenant)
DELETE_TENANT = Call(lambda stubs: stubs.admin.DeleteTenant, admin.delete_tenant, responses.nothing)
PLACE_TENANT = Call(lambda stubs: stubs.admin.PlaceTenant, admin.place_tenant, responses.unchanged)
SET_INTERACTION_TYPE = Call(
    lambda stubs: stubs.admin.SetInteractionType,
    admin.set_interaction_type,
    responses.interaction_type,
)
LIST_INTERACTION_TYPES = Call(
    lambda stubs: stubs.admin.ListInteractionTypes,
    admin.list_interaction_types,
    responses.interaction_types,
)
DELETE_INTERACTION_TYPE = Call(
    lambda stubs: stubs.admin.DeleteInteractionType,
    admin.delete_interaction_type,
    responses.nothing,
)
GET_MIGRATION_VERSION = Call(
    lambda stubs: stubs.admin.GetMigrationVersion,
    admin.get_migration_version,
    responses.unchanged,
)
LIST_MIGRATIONS = Call(
    lambda stubs: stubs.admin.ListMigrations,
    admin.list_migrations,
    responses.migrations,
)
RUN_MIGRATIONS = Call(
    lambda stubs: stubs.admin.RunMigrations,
    admin.run_migrations,
    responses.applied_versions,
)
GET_POOL_STATS = Call(
    lambda stubs: stubs.admin.GetPoolStats, admin.get_pool_stats, responses.unchanged
)
GET_CACHE_STATS = Call(
    lambda stubs: stubs.admin.GetCacheStats, admin.get_cache_stats, responses.unchanged
)
INVALIDATE_CACHE = Call(
    lambda stubs: stubs.admin.InvalidateCache,
    admin.invalidate_cache,
    responses.users_count,
)
GET_INDEX_STATS = Call(
    lambda stubs: stubs.admin.GetIndexStats, admin.get_index_stats, responses.unchanged
)
VERIFY_INTEGRITY = Call(
    lambda stubs: stubs.admin.VerifyIntegrity, admin.verify_integrity, responses.unchanged
)
LIST_AUDIT_EVENTS = Pages(
    lambda stubs: stubs.admin.ListAuditEvents, admin.list_audit_events, responses.audit_events
)
GET_QUOTAS = Call(lambda stubs: stubs.admin.GetQuotas, admin.get_quotas, responses.unchanged)
SET_QUOTAS = Call(
    lambda stubs: stubs.admin.SetQuotas, admin.set_quotas, lambda answer: answer.quotas
)
