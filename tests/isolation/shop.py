"""What a tenant of the tests has, and its requests that take more than a line."""

from collections.abc import Iterator
from typing import Any

from google.longrunning import operations_pb2 as lro
from google.protobuf.duration_pb2 import Duration
from penchant.v1 import admin_pb2 as admin
from penchant.v1 import api_key_pb2 as keys
from penchant.v1 import embedding_pb2 as embedding
from penchant.v1 import entity_pb2 as entity
from penchant.v1 import interaction_pb2 as interaction
from penchant.v1 import model_pb2 as model
from penchant.v1 import recommendation_pb2 as recommendation

from tests.isolation.actors import DIMENSION, Actor

BOOKS = 24
USERS = 10


def tenant(a: Actor) -> admin.CreateTenantRequest:
    """A tenant with settings of its own."""
    settings = admin.TenantSettings(segment_attribute="country", source_weights={"content": 0.7})
    return admin.CreateTenantRequest(
        tenant=admin.Tenant(
            tenant_id=a.tenant, display_name="Shop", dimension=DIMENSION, settings=settings
        )
    )


def key(a: Actor) -> keys.CreateApiKeyRequest:
    """The key that the tenant does everything with."""
    scopes = ["tenant:admin"]
    return keys.CreateApiKeyRequest(
        api_key=keys.ApiKey(tenant_id=a.tenant, display_name="admin", scopes=scopes)
    )


def book(a: Actor, number: int) -> entity.UpsertEntityRequest:
    """A book with a vector and attributes."""
    request = entity.UpsertEntityRequest()
    request.entity.entity.CopyFrom(a.book(number))
    request.entity.feature_vector.extend(a.vector(number))
    request.entity.attributes.update(
        {
            "title": a.name(f"Book {number}"),
            "genre": ("sf", "crime", "poetry")[(number + a.seed - 1) % 3],
            "year": 1960 + number,
            "shelf": a.name("shelf"),
        }
    )
    return request


def catalogue(a: Actor) -> entity.BatchUpsertEntitiesRequest:
    """The other books, the users' attributes, and a row that is refused."""
    request = entity.BatchUpsertEntitiesRequest(requests=[book(a, n) for n in range(1, BOOKS)])
    for number in range(USERS):
        row = request.requests.add().entity
        row.entity.entity_type, row.entity.entity_id = "user", a.user(number)
        row.attributes.update({"country": "uk" if number % 2 else "fr"})
    request.requests.add().entity.entity.entity_type = "nameless"
    return request


def event(a: Actor, user: int, number: int, kind: str = "like") -> interaction.Interaction:
    """What a user did with a book; its id says what."""
    made = interaction.Interaction(
        interaction_id=a.name(f"{user}-{number}-{kind}"),
        user_id=a.user(user),
        entity=a.book(number),
        interaction_type=kind,
    )
    made.timestamp.FromDatetime(a.at(37 * user + 5 * number))
    made.metadata.update({"page": a.name("home")})
    made.weight = 1 + a.seed
    return made


def _taste(a: Actor, user: int) -> Iterator[int]:
    """What a user likes: a stretch of the shelf of their own, shared with their neighbours."""
    yield from ((3 * user + a.seed**2 * n) % BOOKS for n in range(5 + user % 3))


def log(a: Actor) -> Iterator[interaction.IngestInteractionsRequest]:
    """What everybody liked; rows that are known, changed and refused."""
    for number in range(USERS):
        rows = [event(a, number, liked) for liked in _taste(a, number)]
        yield interaction.IngestInteractionsRequest(sequence=number, interactions=rows)
    known = event(a, 0, 0)
    changed = event(a, 1, 3)
    changed.weight = 9
    unknown = event(a, 1, 4, "swallow")
    yield interaction.IngestInteractionsRequest(
        sequence=USERS, interactions=[known, changed, unknown]
    )


def session(a: Actor) -> interaction.IngestInteractionRequest:
    """What a visitor did."""
    visit = event(a, USERS, 7)
    visit.ClearField("user_id")
    visit.session_id = a.name("visit")
    return interaction.IngestInteractionRequest(interaction=visit)


def recommend(a: Actor, **fields: Any) -> recommendation.RecommendRequest:
    """A few books for a user."""
    return recommendation.RecommendRequest(**{"user_id": a.user(1), "page_size": 4, **fields})


def following(a: Actor, request: Any, label: str) -> Any:
    """The request for the page after that of a step."""
    request.page_token = a.answers[label].next_page_token
    return request


def recorded_id(a: Actor) -> str:
    """The id of the answer that is kept."""
    return str(a.answers["recorded"].recommendation_id)


def embeddings(a: Actor) -> embedding.SaveEmbeddingsRequest:
    """Vectors of some books."""
    request = embedding.SaveEmbeddingsRequest()
    for number in range(4):
        request.embeddings.add(entity=a.book(number), version="v1", values=a.vector(number))
    return request


def operation(a: Actor, label: str = "TrainModel") -> str:
    """The name of a training."""
    return str(a.answers[label].name)


def imported(a: Actor) -> Iterator[model.ImportModelRequest]:
    """What was exported, under another name."""
    for part in a.answers["ExportModel"]:
        request = model.ImportModelRequest()
        if part.HasField("manifest"):
            request.manifest.CopyFrom(part.manifest)
            request.manifest.model = a.name("copy")
        else:
            request.chunk = part.chunk
        yield request


def knn(a: Actor) -> model.Model:
    """A model that serves whenever it is trained."""
    return model.Model(name=a.name("main"), algorithm="item_knn", promotion=model.PROMOTION_ALWAYS)


def wait(a: Actor) -> lro.WaitOperationRequest:
    """Waits for a training that is done."""
    return lro.WaitOperationRequest(name=operation(a), timeout=Duration(seconds=1))


def receipt_id(a: Actor) -> str:
    """The id of the receipt of an erasure."""
    return str(a.answers["EraseUser"].receipt.receipt_id)


def set_quotas(a: Actor) -> admin.SetQuotasRequest:
    """Limits that nothing here reaches."""
    quotas = admin.Quotas(
        entities=1000, interactions_per_day=5000, stored_bytes=1 << 30, training_minutes_per_day=60
    )
    return admin.SetQuotasRequest(tenant_id=a.tenant, quotas=quotas)


def key_id(a: Actor, label: str = "CreateApiKey") -> str:
    """The visible part of a key."""
    return str(a.answers[label].api_key.key_id)
