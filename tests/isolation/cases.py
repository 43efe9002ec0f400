"""One case or more of every RPC, in the order in which a tenant would call them."""

from google.longrunning import operations_pb2 as lro
from google.protobuf.field_mask_pb2 import FieldMask
from penchant.v1 import admin_pb2 as admin
from penchant.v1 import api_key_pb2 as keys
from penchant.v1 import demand_pb2 as demand
from penchant.v1 import embedding_pb2 as embedding
from penchant.v1 import entity_pb2 as entity
from penchant.v1 import interaction_pb2 as interaction
from penchant.v1 import model_pb2 as model
from penchant.v1 import privacy_pb2 as privacy
from penchant.v1 import recommendation_pb2 as recommendation

from tests.isolation.actors import OPERATIONS, Step, Work, step
from tests.isolation.shop import (
    book,
    catalogue,
    embeddings,
    event,
    following,
    imported,
    key,
    key_id,
    knn,
    log,
    operation,
    receipt_id,
    recommend,
    recorded_id,
    session,
    set_quotas,
    tenant,
    wait,
)

_RATING = admin.InteractionType(interaction_type="rating", weight=1.5)

FIRST = (
    step("AdminService.CreateTenant", tenant),
    step("ApiKeyService.CreateApiKey", key, operator=True),
)
"""What makes a tenant; one that is empty does no more."""

_ADMIN = (
    step("AdminService.GetTenant", lambda a: admin.GetTenantRequest(tenant_id=a.tenant)),
    step("AdminService.ListTenants", lambda a: admin.ListTenantsRequest()),
    step(
        "AdminService.UpdateTenant",
        lambda a: admin.UpdateTenantRequest(
            tenant=admin.Tenant(tenant_id=a.tenant, display_name="Bookshop"),
            update_mask=FieldMask(paths=["display_name"]),
        ),
    ),
    step("AdminService.SetQuotas", set_quotas),
    step(
        "AdminService.SetInteractionType",
        lambda a: admin.SetInteractionTypeRequest(tenant_id=a.tenant, interaction_type=_RATING),
    ),
    step(
        "AdminService.ListInteractionTypes",
        lambda a: admin.ListInteractionTypesRequest(tenant_id=a.tenant),
    ),
    step(
        "AdminService.DeleteInteractionType",
        lambda a: admin.DeleteInteractionTypeRequest(tenant_id=a.tenant, interaction_type="rating"),
    ),
)

_DATA = (
    step("EntityService.UpsertEntity", lambda a: book(a, 0)),
    step("EntityService.UpsertEntity", lambda a: book(a, 0), "upserted again"),
    step("EntityService.BatchUpsertEntities", catalogue),
    step(
        "EntityService.GetEntity",
        lambda a: entity.GetEntityRequest(entity=a.book(3), include_vector=True),
    ),
    step("EntityService.ListEntities", lambda a: entity.ListEntitiesRequest(page_size=9)),
    step(
        "EntityService.ListEntities",
        lambda a: following(a, entity.ListEntitiesRequest(page_size=9), "ListEntities"),
        "more entities",
    ),
    step(
        "EntityService.ListEntities",
        lambda a: entity.ListEntitiesRequest(filter='genre = "sf" AND year >= 1965'),
        "filtered entities",
    ),
    step("InteractionService.IngestInteraction", session),
    step("InteractionService.IngestInteraction", session, "ingested again"),
    step("InteractionService.IngestInteractions", log),
    step(
        "InteractionService.ListInteractions",
        lambda a: interaction.ListInteractionsRequest(user_id=a.user(2), page_size=3),
    ),
    step(
        "InteractionService.ListInteractions",
        lambda a: following(
            a,
            interaction.ListInteractionsRequest(user_id=a.user(2), page_size=3),
            "ListInteractions",
        ),
        "more interactions",
    ),
    step(
        "InteractionService.ListInteractions",
        lambda a: interaction.ListInteractionsRequest(entity=a.book(6)),
        "an entity's interactions",
    ),
    step(
        "InteractionService.MergeUsers",
        lambda a: interaction.MergeUsersRequest(
            source_session_id=a.name("visit"), target_user_id=a.user(1)
        ),
    ),
    step(
        "InteractionService.DeleteInteractions",
        lambda a: interaction.DeleteInteractionsRequest(user_id=a.user(3), entity=a.book(10)),
    ),
    Work("jobs"),
)

_ANSWERS = (
    step("RecommendationService.Recommend", recommend),
    step("RecommendationService.Recommend", recommend, "from the cache"),
    step(
        "RecommendationService.Recommend",
        lambda a: following(a, recommend(a), "Recommend"),
        "second page",
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: recommend(a, explain=True, diversity=0.4, page_size=10),
        "explained",
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: recommend(a, record=True, explain=True, filter="year > 1961"),
        "recorded",
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: recommendation.RecommendRequest(context_entities=[a.book(5)], explain=True),
        "nobody",
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: recommendation.RecommendRequest(user_id=a.name("stranger"), explain=True),
        "stranger",
    ),
    step(
        "RecommendationService.BatchRecommend",
        lambda a: recommendation.BatchRecommendRequest(
            requests=[recommend(a, user_id=a.user(n)) for n in range(4)]
            + [recommend(a, filter="(")]
        ),
    ),
    step(
        "RecommendationService.SimilarEntities",
        lambda a: recommendation.SimilarEntitiesRequest(
            entity=a.book(4), page_size=5, explain=True
        ),
    ),
    step(
        "RecommendationService.SimilarUsers",
        lambda a: recommendation.SimilarUsersRequest(user_id=a.user(1), page_size=3),
    ),
    step(
        "RecommendationService.RecommendUsers",
        lambda a: recommendation.RecommendUsersRequest(
            entity=a.book(2), page_size=3, include_seen=True
        ),
    ),
    step("RecommendationService.Trending", lambda a: recommendation.TrendingRequest(page_size=6)),
    step(
        "RecommendationService.Rerank",
        lambda a: recommendation.RerankRequest(
            user_id=a.user(4), entities=[a.book(n) for n in (99, 1, 2, 3)], explain=True
        ),
    ),
    step(
        "RecommendationService.GetRecommendation",
        lambda a: recommendation.GetRecommendationRequest(recommendation_id=recorded_id(a)),
    ),
    step(
        "RecommendationService.ReplayRecommendation",
        lambda a: recommendation.ReplayRecommendationRequest(recommendation_id=recorded_id(a)),
    ),
    step(
        "RecommendationService.Explain",
        lambda a: recommendation.ExplainRequest(
            recommendation_id=recorded_id(a), entity=a.answers["recorded"].items[0].entity
        ),
    ),
    step(
        "DemandService.ForecastDemand",
        lambda a: demand.ForecastDemandRequest(entity_type="book", horizon=5),
    ),
    step("EmbeddingService.SaveEmbeddings", embeddings),
    step(
        "EmbeddingService.GetEmbedding",
        lambda a: embedding.GetEmbeddingRequest(entity=a.book(2)),
    ),
    step(
        "EmbeddingService.ListEmbeddings",
        lambda a: embedding.ListEmbeddingsRequest(entity_type="book", page_size=3),
    ),
    step("EmbeddingService.GetEmbeddingStats", lambda a: embedding.GetEmbeddingStatsRequest()),
    step(
        "EmbeddingService.CleanUpEmbeddings",
        lambda a: embedding.CleanUpEmbeddingsRequest(version="v1", entity_type="book"),
    ),
)

_MODELS = (
    step("ModelService.ListAlgorithms", lambda a: model.ListAlgorithmsRequest()),
    step("ModelService.CreateModel", lambda a: model.CreateModelRequest(model=knn(a))),
    step(
        "ModelService.UpdateModel",
        lambda a: model.UpdateModelRequest(model=model.Model(name=a.name("main"), keep_versions=1)),
    ),
    step("ModelService.TrainModel", lambda a: model.TrainModelRequest(name=a.name("main"))),
    Work("trainings"),
    step(
        "ModelService.TrainModel",
        lambda a: model.TrainModelRequest(name=a.name("main")),
        "trained again",
    ),
    Work("trainings"),
    step(
        "ModelService.WatchTraining",
        lambda a: model.WatchTrainingRequest(operation=operation(a)),
    ),
    step(f"{OPERATIONS}.GetOperation", lambda a: lro.GetOperationRequest(name=operation(a))),
    step(f"{OPERATIONS}.WaitOperation", wait),
    step("ModelService.GetModel", lambda a: model.GetModelRequest(name=a.name("main"))),
    step("ModelService.ListVersions", lambda a: model.ListVersionsRequest(name=a.name("main"))),
    step("RecommendationService.Recommend", lambda a: recommend(a, explain=True), "with a model"),
    step(
        "RecommendationService.Recommend",
        lambda a: recommend(a, model_version=a.name("main") + "@1", explain=True),
        "with a version",
    ),
    step("ModelService.ExportModel", lambda a: model.ExportModelRequest(name=a.name("main"))),
    step("ModelService.ImportModel", imported),
    step("ModelService.ListModels", lambda a: model.ListModelsRequest(page_size=1)),
    step("ModelService.PromoteVersion", lambda a: model.PromoteVersionRequest(name=a.name("copy"))),
    step("ModelService.RollbackModel", lambda a: model.RollbackModelRequest(name=a.name("copy"))),
    step("ModelService.CompareModels", lambda a: model.CompareModelsRequest()),
    step(
        "ModelService.EvaluateModel",
        lambda a: model.EvaluateModelRequest(name=a.name("main"), split="random"),
    ),
    step(
        "ModelService.CancelTraining",
        lambda a: model.CancelTrainingRequest(operation=operation(a, "EvaluateModel")),
    ),
    step(
        f"{OPERATIONS}.CancelOperation",
        lambda a: lro.CancelOperationRequest(name=operation(a, "EvaluateModel")),
    ),
    step(f"{OPERATIONS}.ListOperations", lambda a: lro.ListOperationsRequest(page_size=2)),
    step(
        f"{OPERATIONS}.DeleteOperation",
        lambda a: lro.DeleteOperationRequest(name=operation(a)),
    ),
    step(
        "ModelService.DeleteVersion",
        lambda a: model.DeleteVersionRequest(name=a.name("main"), version="1"),
    ),
    step("ModelService.CleanUpModels", lambda a: model.CleanUpModelsRequest()),
    step("ModelService.DeleteModel", lambda a: model.DeleteModelRequest(name=a.name("copy"))),
)

_PRIVACY = (
    step("PrivacyService.GetReceiptKey", lambda a: privacy.GetReceiptKeyRequest()),
    step("PrivacyService.EraseUser", lambda a: privacy.EraseUserRequest(user_id=a.user(5))),
    step("PrivacyService.VerifyErasure", lambda a: privacy.VerifyErasureRequest(user_id=a.user(5))),
    step(
        "PrivacyService.GetErasureReceipt",
        lambda a: privacy.GetErasureReceiptRequest(receipt_id=receipt_id(a)),
    ),
    step(
        "InteractionService.IngestInteraction",
        lambda a: interaction.IngestInteractionRequest(interaction=event(a, 5, 1, "view")),
        "ingest of an erased user",
    ),
    step("PrivacyService.ReadmitUser", lambda a: privacy.ReadmitUserRequest(user_id=a.user(5))),
)

_HOUSE = (
    step(
        "ApiKeyService.GetApiKey",
        lambda a: keys.GetApiKeyRequest(tenant_id=a.tenant, key_id=key_id(a)),
    ),
    step(
        "ApiKeyService.RotateApiKey",
        lambda a: keys.RotateApiKeyRequest(tenant_id=a.tenant, key_id=key_id(a)),
    ),
    step(
        "ApiKeyService.RevokeApiKey",
        lambda a: keys.RevokeApiKeyRequest(tenant_id=a.tenant, key_id=key_id(a, "RotateApiKey")),
    ),
    step("ApiKeyService.ListApiKeys", lambda a: keys.ListApiKeysRequest(tenant_id=a.tenant)),
    step("EntityService.DeleteEntity", lambda a: entity.DeleteEntityRequest(entity=a.book(20))),
    step(
        "EntityService.GetEntity",
        lambda a: entity.GetEntityRequest(entity=a.book(20)),
        "a deleted entity",
    ),
    step(
        "AdminService.InvalidateCache",
        lambda a: admin.InvalidateCacheRequest(tenant_id=a.tenant, pattern=a.name("u*")),
    ),
    step("AdminService.GetIndexStats", lambda a: admin.GetIndexStatsRequest(tenant_id=a.tenant)),
    step("AdminService.GetQuotas", lambda a: admin.GetQuotasRequest(tenant_id=a.tenant)),
    step(
        "AdminService.VerifyIntegrity", lambda a: admin.VerifyIntegrityRequest(tenant_id=a.tenant)
    ),
    step("AdminService.PlaceTenant", lambda a: admin.PlaceTenantRequest(tenant_id=a.tenant)),
    Work("jobs"),
    step(
        "AdminService.GetIndexStats",
        lambda a: admin.GetIndexStatsRequest(tenant_id=a.tenant),
        "index of its own",
    ),
    step("RecommendationService.Recommend", lambda a: recommend(a, explain=True), "placed"),
    step("AdminService.GetMigrationVersion", lambda a: admin.GetMigrationVersionRequest()),
    step("AdminService.ListMigrations", lambda a: admin.ListMigrationsRequest()),
    step("AdminService.RunMigrations", lambda a: admin.RunMigrationsRequest()),
    step("AdminService.GetPoolStats", lambda a: admin.GetPoolStatsRequest()),
    step("AdminService.GetCacheStats", lambda a: admin.GetCacheStatsRequest()),
    step(
        "AdminService.ListAuditEvents",
        lambda a: admin.ListAuditEventsRequest(tenant_id=a.tenant, page_size=100),
    ),
)

LAST = (
    step("AdminService.DeleteTenant", lambda a: admin.DeleteTenantRequest(tenant_id=a.tenant)),
    Work("jobs"),
    step(
        "PrivacyService.GetTenantErasureReceipt",
        lambda a: privacy.GetTenantErasureReceiptRequest(tenant_id=a.tenant),
    ),
)

STEPS: tuple[Step | Work, ...] = (
    *FIRST,
    *_ADMIN,
    *_DATA,
    *_ANSWERS,
    *_MODELS,
    *_PRIVACY,
    *_HOUSE,
    *LAST,
)
"""The whole record, in order."""

BY_LABEL = {one.label: one for one in STEPS if isinstance(one, Step)}
"""The calls of the record."""


def covered() -> set[str]:
    """The full names of the methods that have a case."""
    return {one.method for one in STEPS if isinstance(one, Step)}
