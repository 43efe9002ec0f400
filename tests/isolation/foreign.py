"""What B tries with A's names: a request for every method that takes one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pool import Default
from google.protobuf.duration_pb2 import Duration
from penchant.v1 import embedding_pb2 as embedding
from penchant.v1 import entity_pb2 as entity
from penchant.v1 import interaction_pb2 as interaction
from penchant.v1 import model_pb2 as model
from penchant.v1 import recommendation_pb2 as recommendation
from penchant.v1.common_pb2 import EntityRef

from tests.isolation.actors import OPERATIONS, Actor, Requests, full_name
from tests.isolation.shop import key_id, operation, receipt_id, recorded_id

NOBODY = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A name of A's in a request of B's.

    Attributes:
        ask: the request with a name in it, for the tenant that asks.
        theirs: the name that A has.
        absent: one as long that nobody has, made of it.
    """

    method: str
    ask: Callable[[str, Actor], Requests]
    theirs: Callable[[Actor], str]
    absent: Callable[[str], str]


def _other(name: str) -> str:
    """A name as long that begins like none of A's or B's."""
    return "zz" + name[2:]


def _no_id(name: str) -> str:
    """A random id that was never given."""
    return ("a" if name[0] != "a" else "b") + name[1:]


def _no_operation(name: str) -> str:
    return f"operations/{NOBODY}"


def _no_token(token: str) -> str:
    """A freshness token of a tenant that is not."""
    return token[:4] + "AAAB" + token[8:]


def _no_version(name: str) -> str:
    return "v9"


def _try(
    method: str,
    ask: str | Callable[[str, Actor], Requests],
    theirs: Callable[[Actor], str],
    absent: Callable[[str], str] = _other,
    **fixed: Any,
) -> Attempt:
    """An attempt; a text is the field that the name is put in, beside some that are fixed."""
    name = full_name(method)
    if isinstance(ask, str):
        return Attempt(name, _filled(name, ask, fixed), theirs, absent)
    return Attempt(name, ask, theirs, absent)


def _filled(method: str, field: str, fixed: dict[str, Any]) -> Callable[[str, Actor], Requests]:
    kind = message_factory.GetMessageClass(Default().FindMethodByName(method).input_type)

    def ask(name: str, a: Actor) -> Requests:
        request: Any = kind(**fixed)
        about, value = request.DESCRIPTOR.fields_by_name[field], getattr(request, field)
        if about.is_repeated:
            value.append(_ref(name) if about.message_type else name)
        elif about.message_type:
            value.CopyFrom(_ref(name))
        else:
            setattr(request, field, name)
        if "tenant_id" in request.DESCRIPTOR.fields_by_name:
            request.tenant_id = a.tenant
        return request  # type: ignore[no-any-return]

    return ask


def _ref(name: str) -> EntityRef:
    return EntityRef(entity_type="book", entity_id=name)


def _book(a: Actor) -> str:
    return a.book(3).entity_id


def _user(a: Actor) -> str:
    return a.user(1)


def _event_id(a: Actor) -> str:
    return a.name("1-3-like")


def _model(a: Actor) -> str:
    return a.name("main")


def _version(a: Actor) -> str:
    return a.name("main") + "@2"


def _embedded(a: Actor) -> str:
    return "v1"


def _fresh(a: Actor) -> str:
    return str(a.answers["IngestInteraction"].ack.freshness_token)


def _hash(a: Actor) -> str:
    return str(a.answers["ExportModel"][0].manifest.content_hash)


def _filter(kind: Any) -> Callable[[str, Actor], Requests]:
    return lambda name, a: kind(filter=f'entity_id = "{name}"')


def _event(a: Actor, **fields: Any) -> interaction.Interaction:
    given = {"user_id": "w", "entity": _ref("w"), "interaction_type": "like", **fields}
    event = interaction.Interaction(**given)
    event.timestamp.FromDatetime(a.at(1))
    return event


def _ingest(**prefixes: str) -> Callable[[str, Actor], Requests]:
    def ask(name: str, a: Actor) -> Requests:
        given = {key: prefix + name for key, prefix in prefixes.items()}
        return interaction.IngestInteractionRequest(interaction=_event(a, **given))

    return ask


def _ingest_stream(name: str, a: Actor) -> Iterator[interaction.IngestInteractionsRequest]:
    event = _event(a, interaction_id=name, weight=9.0)
    yield interaction.IngestInteractionsRequest(sequence=1, interactions=[event])


def _recommend_many(name: str, a: Actor) -> Requests:
    one = recommendation.RecommendRequest(user_id=name, record=True, page_size=99)
    return recommendation.BatchRecommendRequest(requests=[one])


def _rerank(name: str, a: Actor) -> Requests:
    return recommendation.RerankRequest(entities=[_ref(name)], context_entities=[_ref(name)])


def _upsert(name: str, a: Actor) -> entity.UpsertEntityRequest:
    return entity.UpsertEntityRequest(entity=entity.Entity(entity=_ref(name), hidden=True))


def _upsert_many(name: str, a: Actor) -> Requests:
    return entity.BatchUpsertEntitiesRequest(requests=[_upsert(name, a)])


def _embed(name: str, a: Actor) -> Requests:
    one = embedding.Embedding(entity=_ref(name), values=[1, 2])
    return embedding.SaveEmbeddingsRequest(embeddings=[one])


def _create_model(name: str, a: Actor) -> Requests:
    return model.CreateModelRequest(model=model.Model(name=name, algorithm="item_knn"))


def _update_model(name: str, a: Actor) -> Requests:
    return model.UpdateModelRequest(model=model.Model(name=name, keep_versions=9))


def _import_by_hash(name: str, a: Actor) -> Iterator[model.ImportModelRequest]:
    """Says that it has what A has, and sends nothing."""
    request = model.ImportModelRequest()
    request.manifest.model, request.manifest.content_hash = "stolen", name
    request.manifest.size_bytes, request.manifest.manifest_json = 4000, "{}"
    yield request


READS = (
    _try("RecommendationService.Recommend", "user_id", _user, explain=True, page_size=99),
    _try("RecommendationService.Recommend", "context_entities", _book, explain=True, page_size=99),
    _try("RecommendationService.Recommend", "model_version", _version),
    _try("RecommendationService.Recommend", "at_least_as_fresh", _fresh, _no_token),
    _try("RecommendationService.BatchRecommend", _recommend_many, _user),
    _try("RecommendationService.SimilarEntities", "entity", _book),
    _try("RecommendationService.SimilarUsers", "user_id", _user),
    _try("RecommendationService.RecommendUsers", "entity", _book, include_seen=True),
    _try("RecommendationService.Trending", _filter(recommendation.TrendingRequest), _book),
    _try("RecommendationService.Rerank", _rerank, _book),
    _try("RecommendationService.GetRecommendation", "recommendation_id", recorded_id, _no_id),
    _try("RecommendationService.ReplayRecommendation", "recommendation_id", recorded_id, _no_id),
    _try(
        "RecommendationService.Explain",
        "recommendation_id",
        recorded_id,
        _no_id,
        entity=_ref("w"),
    ),
    _try("EntityService.GetEntity", "entity", _book),
    _try("EntityService.ListEntities", _filter(entity.ListEntitiesRequest), _book),
    _try("InteractionService.ListInteractions", "user_id", _user),
    _try("InteractionService.ListInteractions", "entity", _book),
    _try("DemandService.ForecastDemand", "entity", _book, horizon=1),
    _try("EmbeddingService.GetEmbedding", "entity", _book),
    _try("EmbeddingService.ListEmbeddings", "version", _embedded, _no_version, entity_type="book"),
    _try("ModelService.GetModel", "name", _model),
    _try("ModelService.ListVersions", "name", _model),
    _try("ModelService.CompareModels", "versions", _version),
    _try("ModelService.ExportModel", "name", _model),
    _try("ModelService.ExportModel", "name", _model, version="2"),
    _try("ModelService.WatchTraining", "operation", operation, _no_operation),
    _try(f"{OPERATIONS}.GetOperation", "name", operation, _no_operation),
    _try(
        f"{OPERATIONS}.WaitOperation",
        "name",
        operation,
        _no_operation,
        timeout=Duration(seconds=1),
    ),
    _try("PrivacyService.GetErasureReceipt", "receipt_id", receipt_id, _no_id),
    _try("PrivacyService.VerifyErasure", "user_id", _user),
    _try("ApiKeyService.GetApiKey", "key_id", key_id, _no_id),
)

WRITES = (
    _try("InteractionService.DeleteInteractions", "interaction_ids", _event_id),
    _try("InteractionService.DeleteInteractions", "user_id", _user),
    _try("InteractionService.MergeUsers", "source_user_id", _user, target_user_id="w"),
    _try("InteractionService.IngestInteraction", _ingest(user_id="", interaction_id="i-"), _user),
    _try("InteractionService.IngestInteraction", _ingest(interaction_id=""), _event_id),
    _try("InteractionService.IngestInteractions", _ingest_stream, lambda a: a.name("2-6-like")),
    _try("PrivacyService.ReadmitUser", "user_id", lambda a: a.user(5)),
    _try("PrivacyService.EraseUser", "user_id", lambda a: a.user(2)),
    _try("EntityService.DeleteEntity", "entity", _book),
    _try("EntityService.UpsertEntity", _upsert, _book),
    _try("EntityService.BatchUpsertEntities", _upsert_many, lambda a: a.book(4).entity_id),
    _try("EmbeddingService.SaveEmbeddings", _embed, _book),
    _try(
        "EmbeddingService.CleanUpEmbeddings", "version", _embedded, _no_version, entity_type="book"
    ),
    _try("ModelService.UpdateModel", _update_model, _model),
    _try("ModelService.TrainModel", "name", _model),
    _try("ModelService.EvaluateModel", "name", _model),
    _try("ModelService.CancelTraining", "operation", operation, _no_operation),
    _try(f"{OPERATIONS}.CancelOperation", "name", operation, _no_operation),
    _try(f"{OPERATIONS}.DeleteOperation", "name", operation, _no_operation),
    _try("ModelService.PromoteVersion", "name", _model),
    _try("ModelService.RollbackModel", "name", _model),
    _try("ModelService.DeleteVersion", "name", _model, version="2", force=True),
    _try("ModelService.CleanUpModels", "name", _model),
    _try("ModelService.DeleteModel", "name", _model, force=True),
    _try("ModelService.ImportModel", _import_by_hash, _hash, _no_id),
    _try("ModelService.CreateModel", _create_model, _model),
    _try("ApiKeyService.RotateApiKey", "key_id", key_id, _no_id),
    _try("ApiKeyService.RevokeApiKey", "key_id", key_id, _no_id),
    _try("AdminService.InvalidateCache", "user_id", _user),
)

NAMELESS = {
    "penchant.v1.ModelService.ListAlgorithms": "is the same for all",
    "penchant.v1.ModelService.ListModels": "lists all of the caller's",
    "penchant.v1.EmbeddingService.GetEmbeddingStats": "counts all of the caller's",
    f"{OPERATIONS}.ListOperations": "lists all of the caller's",
    "penchant.v1.PrivacyService.GetReceiptKey": "is the same for all",
}
"""Methods for tenants whose requests have no name that could be another's, but the tenant's."""
