"""One case or more of every RPC, in the order in which a tenant would call them."""

from collections.abc import Iterator

from google.longrunning import operations_pb2 as lro
from google.protobuf.duration_pb2 import Duration
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
from penchant.v1.common_pb2 import EntityRef

from tests.isolation.actors import DIMENSION, OPERATIONS, Actor, Step, Work, step

BOOKS = 24
USERS = 10


def _tenant(a: Actor) -> admin.CreateTenantRequest:
    settings = admin.TenantSettings(segment_attribute="country", source_weights={"content": 0.7})
    return admin.CreateTenantRequest(
        tenant=admin.Tenant(
            tenant_id=a.tenant, display_name="Shop", dimension=DIMENSION, settings=settings
        )
    )


def _key(a: Actor) -> keys.CreateApiKeyRequest:
    scopes = ["tenant:admin"]
    return keys.CreateApiKeyRequest(
        api_key=keys.ApiKey(tenant_id=a.tenant, display_name="admin", scopes=scopes)
    )


def _book(a: Actor, number: int) -> entity.UpsertEntityRequest:
    request = entity.UpsertEntityRequest()
    request.entity.entity.CopyFrom(a.book(number))
    request.entity.feature_vector.extend(a.vector(number))
    request.entity.attributes.update(
        {
            "title": a.name(f"Book {number}"),
            "genre": ("sf", "crime", "poetry")[number % 3],
            "year": 1960 + number,
            "shelf": a.name("shelf"),
        }
    )
    return request


def _catalogue(a: Actor) -> entity.BatchUpsertEntitiesRequest:
    request = entity.BatchUpsertEntitiesRequest(requests=[_book(a, n) for n in range(1, BOOKS)])
    for number in range(USERS):
        row = request.requests.add().entity
        row.entity.entity_type, row.entity.entity_id = "user", a.user(number)
        row.attributes.update({"country": "uk" if number % 2 else "fr"})
    request.requests.add().entity.entity.entity_type = "nameless"
    return request


def _event(a: Actor, user: int, book: int, kind: str = "like") -> interaction.Interaction:
    event = interaction.Interaction(
        interaction_id=a.name(f"{user}-{book}-{kind}"),
        user_id=a.user(user),
        entity=a.book(book),
        interaction_type=kind,
    )
    event.timestamp.FromDatetime(a.at(37 * user + 5 * book))
    event.metadata.update({"page": a.name("home")})
    return event


def _taste(user: int) -> Iterator[int]:
    """What a user likes: a stretch of the shelf of their own, shared with their neighbours."""
    yield from ((3 * user + n) % BOOKS for n in range(5 + user % 3))


def _log(a: Actor) -> Iterator[interaction.IngestInteractionsRequest]:
    for number in range(USERS):
        rows = [_event(a, number, book) for book in _taste(number)]
        yield interaction.IngestInteractionsRequest(sequence=number, interactions=rows)
    known = _event(a, 0, 0)
    changed = _event(a, 1, 3)
    changed.weight = 4
    unknown = _event(a, 1, 4, "swallow")
    yield interaction.IngestInteractionsRequest(
        sequence=USERS, interactions=[known, changed, unknown]
    )


def _session(a: Actor) -> interaction.IngestInteractionRequest:
    event = _event(a, USERS, 7)
    event.ClearField("user_id")
    event.session_id = a.name("visit")
    return interaction.IngestInteractionRequest(interaction=event)


def _recommend(a: Actor, **fields: object) -> recommendation.RecommendRequest:
    given = {"user_id": a.user(1), "page_size": 4, **fields}
    return recommendation.RecommendRequest(**given)  # type: ignore[arg-type]


def _next(a: Actor, request: object, label: str) -> object:
    request.page_token = a.answers[label].next_page_token  # type: ignore[attr-defined]
    return request


def _recorded(a: Actor) -> str:
    return str(a.answers["recorded"].recommendation_id)


def _embeddings(a: Actor) -> embedding.SaveEmbeddingsRequest:
    request = embedding.SaveEmbeddingsRequest()
    for number in range(4):
        request.embeddings.add(entity=a.book(number), version="v1", values=a.vector(number))
    return request


def _operation(a: Actor, label: str = "TrainModel") -> str:
    return str(a.answers[label].name)


def _imported(a: Actor) -> Iterator[model.ImportModelRequest]:
    for part in a.answers["ExportModel"]:
        request = model.ImportModelRequest()
        if part.HasField("manifest"):
            request.manifest.CopyFrom(part.manifest)
            request.manifest.model = a.name("copy")
        else:
            request.chunk = part.chunk
        yield request


def _knn(a: Actor) -> model.Model:
    return model.Model(
        name=a.name("main"), algorithm="item_knn", promotion=model.PROMOTION_ALWAYS
    )


def _wait(a: Actor) -> lro.WaitOperationRequest:
    return lro.WaitOperationRequest(name=_operation(a), timeout=Duration(seconds=1))


def _receipt(a: Actor) -> str:
    return str(a.answers["EraseUser"].receipt.receipt_id)


def _set_quotas(a: Actor) -> admin.SetQuotasRequest:
    quotas = admin.Quotas(
        entities=1000, interactions_per_day=5000, stored_bytes=1 << 30, training_minutes_per_day=60
    )
    return admin.SetQuotasRequest(tenant_id=a.tenant, quotas=quotas)


_RATING = admin.InteractionType(interaction_type="rating", weight=1.5)

FIRST = (
    step("AdminService.CreateTenant", _tenant),
    step("ApiKeyService.CreateApiKey", _key, operator=True),
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
    step("AdminService.SetQuotas", _set_quotas),
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
        lambda a: admin.DeleteInteractionTypeRequest(
            tenant_id=a.tenant, interaction_type="rating"
        ),
    ),
)

_DATA = (
    step("EntityService.UpsertEntity", lambda a: _book(a, 0)),
    step("EntityService.UpsertEntity", lambda a: _book(a, 0), "upserted again"),
    step("EntityService.BatchUpsertEntities", _catalogue),
    step(
        "EntityService.GetEntity",
        lambda a: entity.GetEntityRequest(entity=a.book(3), include_vector=True),
    ),
    step("EntityService.ListEntities", lambda a: entity.ListEntitiesRequest(page_size=9)),
    step(
        "EntityService.ListEntities",
        lambda a: _next(a, entity.ListEntitiesRequest(page_size=9), "ListEntities"),
        "more entities",
    ),
    step(
        "EntityService.ListEntities",
        lambda a: entity.ListEntitiesRequest(filter='genre = "sf" AND year >= 1965'),
        "filtered entities",
    ),
    step("InteractionService.IngestInteraction", _session),
    step("InteractionService.IngestInteraction", _session, "ingested again"),
    step("InteractionService.IngestInteractions", _log),
    step(
        "InteractionService.ListInteractions",
        lambda a: interaction.ListInteractionsRequest(user_id=a.user(2), page_size=3),
    ),
    step(
        "InteractionService.ListInteractions",
        lambda a: _next(
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
    step("RecommendationService.Recommend", _recommend),
    step("RecommendationService.Recommend", _recommend, "from the cache"),
    step(
        "RecommendationService.Recommend",
        lambda a: _next(a, _recommend(a), "Recommend"),
        "second page",
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: _recommend(a, explain=True, diversity=0.4, page_size=10),
        "explained",
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: _recommend(a, record=True, explain=True, filter="year > 1961"),
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
            requests=[_recommend(a, user_id=a.user(n)) for n in range(4)]
            + [_recommend(a, filter="(")]
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
    step(
        "RecommendationService.Trending", lambda a: recommendation.TrendingRequest(page_size=6)
    ),
    step(
        "RecommendationService.Rerank",
        lambda a: recommendation.RerankRequest(
            user_id=a.user(4), entities=[a.book(n) for n in (99, 1, 2, 3)], explain=True
        ),
    ),
    step(
        "RecommendationService.GetRecommendation",
        lambda a: recommendation.GetRecommendationRequest(recommendation_id=_recorded(a)),
    ),
    step(
        "RecommendationService.ReplayRecommendation",
        lambda a: recommendation.ReplayRecommendationRequest(recommendation_id=_recorded(a)),
    ),
    step(
        "RecommendationService.Explain",
        lambda a: recommendation.ExplainRequest(
            recommendation_id=_recorded(a), entity=a.answers["recorded"].items[0].entity
        ),
    ),
    step(
        "DemandService.ForecastDemand",
        lambda a: demand.ForecastDemandRequest(entity_type="book", horizon=5),
    ),
    step("EmbeddingService.SaveEmbeddings", _embeddings),
    step(
        "EmbeddingService.GetEmbedding",
        lambda a: embedding.GetEmbeddingRequest(entity=a.book(2)),
    ),
    step(
        "EmbeddingService.ListEmbeddings",
        lambda a: embedding.ListEmbeddingsRequest(entity_type="book", page_size=3),
    ),
    step(
        "EmbeddingService.GetEmbeddingStats", lambda a: embedding.GetEmbeddingStatsRequest()
    ),
    step(
        "EmbeddingService.CleanUpEmbeddings",
        lambda a: embedding.CleanUpEmbeddingsRequest(version="v1", entity_type="book"),
    ),
)

_MODELS = (
    step("ModelService.ListAlgorithms", lambda a: model.ListAlgorithmsRequest()),
    step("ModelService.CreateModel", lambda a: model.CreateModelRequest(model=_knn(a))),
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
        lambda a: model.WatchTrainingRequest(operation=_operation(a)),
    ),
    step(f"{OPERATIONS}.GetOperation", lambda a: lro.GetOperationRequest(name=_operation(a))),
    step(f"{OPERATIONS}.WaitOperation", _wait),
    step("ModelService.GetModel", lambda a: model.GetModelRequest(name=a.name("main"))),
    step("ModelService.ListVersions", lambda a: model.ListVersionsRequest(name=a.name("main"))),
    step(
        "RecommendationService.Recommend", lambda a: _recommend(a, explain=True), "with a model"
    ),
    step(
        "RecommendationService.Recommend",
        lambda a: _recommend(a, model_version=a.name("main") + "@1", explain=True),
        "with a version",
    ),
    step("ModelService.ExportModel", lambda a: model.ExportModelRequest(name=a.name("main"))),
    step("ModelService.ImportModel", _imported),
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
        lambda a: model.CancelTrainingRequest(operation=_operation(a, "EvaluateModel")),
    ),
    step(
        f"{OPERATIONS}.CancelOperation",
        lambda a: lro.CancelOperationRequest(name=_operation(a, "EvaluateModel")),
    ),
    step(f"{OPERATIONS}.ListOperations", lambda a: lro.ListOperationsRequest(page_size=2)),
    step(
        f"{OPERATIONS}.DeleteOperation",
        lambda a: lro.DeleteOperationRequest(name=_operation(a)),
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
        lambda a: privacy.GetErasureReceiptRequest(receipt_id=_receipt(a)),
    ),
    step(
        "InteractionService.IngestInteraction",
        lambda a: interaction.IngestInteractionRequest(interaction=_event(a, 5, 1, "view")),
        "ingest of an erased user",
    ),
    step("PrivacyService.ReadmitUser", lambda a: privacy.ReadmitUserRequest(user_id=a.user(5))),
)

_HOUSE = (
    step(
        "ApiKeyService.GetApiKey",
        lambda a: keys.GetApiKeyRequest(tenant_id=a.tenant, key_id=_key_id(a)),
    ),
    step(
        "ApiKeyService.RotateApiKey",
        lambda a: keys.RotateApiKeyRequest(tenant_id=a.tenant, key_id=_key_id(a)),
    ),
    step(
        "ApiKeyService.RevokeApiKey",
        lambda a: keys.RevokeApiKeyRequest(tenant_id=a.tenant, key_id=_key_id(a, "RotateApiKey")),
    ),
    step("ApiKeyService.ListApiKeys", lambda a: keys.ListApiKeysRequest(tenant_id=a.tenant)),
    step(
        "EntityService.DeleteEntity", lambda a: entity.DeleteEntityRequest(entity=a.book(20))
    ),
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
    step("AdminService.VerifyIntegrity", lambda a: admin.VerifyIntegrityRequest(tenant_id=a.tenant)),
    step("AdminService.PlaceTenant", lambda a: admin.PlaceTenantRequest(tenant_id=a.tenant)),
    Work("jobs"),
    step(
        "AdminService.GetIndexStats",
        lambda a: admin.GetIndexStatsRequest(tenant_id=a.tenant),
        "index of its own",
    ),
    step("RecommendationService.Recommend", lambda a: _recommend(a, explain=True), "placed"),
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

_LAST = (
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
    *_LAST,
)
"""The whole record, in order."""


def _key_id(a: Actor, label: str = "CreateApiKey") -> str:
    return str(a.answers[label].api_key.key_id)


def covered() -> set[str]:
    """The full names of the methods that have a case."""
    return {one.method for one in STEPS if isinstance(one, Step)}


def nobody() -> EntityRef:
    """The name of a book that nobody has."""
    return EntityRef(entity_type="book", entity_id="no-such")
