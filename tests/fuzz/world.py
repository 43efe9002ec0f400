"""What the service under fuzzing holds: tenants, books, users, models, keys, and their names."""

import hashlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from penchant.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    api_key_pb2,
    api_key_pb2_grpc,
    demand_pb2,
    demand_pb2_grpc,
    embedding_pb2,
    embedding_pb2_grpc,
    entity_pb2,
    entity_pb2_grpc,
    interaction_pb2,
    interaction_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)
from penchant.v1.common_pb2 import EntityRef

from engine.models.artefact import write_artefact
from tests.fuzz.messages import Names
from tests.rpc.model_worlds import STATISTICS, fitted

MAIN, OTHER = "main", "other"
DIMENSION = 8
BOOKS = [f"b{number:02}" for number in range(40)]
USERS = [f"u{number}" for number in range(12)]
THROWN_AWAY = [f"t{number}" for number in range(12)]
_KINDS = ("like", "view", "purchase", "own-kind")
_KEPT = ("DeleteTenant", "SetQuotas")
_SECS = 60


class World:
    """Makes, and makes again, what a run stands on.

    Attributes:
        key: the operator's; no message names it, so none can revoke it.
        names: what messages are made of.
        credentials: texts of keys that callers bring; new ones come from answers.
        import_: the requests of an ImportModel that is taken.
    """

    def __init__(self, channel: grpc.aio.Channel, home: Path) -> None:
        self._home = home
        self._channel = channel
        self.key = ""
        self._key_id = ""
        self.names = Names(
            {
                "tenant_id": [MAIN, OTHER, *THROWN_AWAY],
                "entity_type": ["book", "film"],
                "entity_id": BOOKS,
                "user_id": USERS,
                "source_user_id": USERS,
                "target_user_id": USERS,
                "session_id": ["s1", "s2"],
                "source_session_id": ["s1", "s2"],
                "interaction_type": _KINDS,
                "interaction_types": _KINDS,
                "name": ["knn", "fresh"],
                "model": ["knn", "fresh"],
                "split": ["time", "random", "user"],
                "metric": ["ndcg@10", "recall@10"],
                "algorithm": ["knn", "item_knn", "auto", "als", "popularity"],
                "schedule": ["", "", "0 3 * * *", "@daily"],
                "scopes": ["recommend:read", "entities:write", "tenant:admin", "operator"],
                "key": ["genres", "title", "year"],
                "value": ["sf", "crime"],
                "segment_attribute": ["genres", "", "author.name"],
                "source_weights": ["trending", "neighbours", "content", "popular", "model"],
                "operation": ["operations", "operations/00000000-0000-0000-0000-000000000000"],
                "pattern": ["*", "u*", "u?"],
                "service": ["", "penchant.v1.InteractionService", "nobody"],
                "file_containing_symbol": ["penchant.v1.EntityService", "google.protobuf.Any"],
                "file_by_filename": ["penchant/v1/entity.proto", "google/protobuf/struct.proto"],
                "containing_type": ["google.protobuf.MethodOptions", "penchant.v1.Entity"],
                "all_extension_numbers_of_type": ["google.protobuf.MethodOptions"],
            },
            DIMENSION,
        )
        self.credentials: list[str] = []
        self.import_: list[bytes] = []

    def hear(self, answer: Any) -> None:
        """Takes the names out of an answer."""
        for field, value in answer.ListFields():
            if field.message_type is not None:
                if field.message_type.GetOptions().map_entry:
                    continue
                for part in list(value)[:3] if field.is_repeated else [value]:
                    self.hear(part)
            elif field.name == "secret":
                self.credentials = [*self.credentials[-9:], value]
            elif field.name == "name" and not str(value).startswith("operations/"):
                continue  # of a model that is being deleted, or of a service
            elif isinstance(value, str) and value != self._key_id:
                for name in _HEARD.get(field.name, ()):
                    self.names.hear(name, value)

    def may_be_sent(self, path: str, request: Any) -> bool:
        """Whether the rest of the run survives a request: two tenants are kept."""
        if not path.endswith(_KEPT):
            return True
        return request.tenant_id not in {MAIN, OTHER, ""}

    async def begin(self) -> None:
        """The operator's key: once there is one, no key that a message makes locks all out."""
        stub = api_key_pb2_grpc.ApiKeyServiceStub(self._channel)
        draft = api_key_pb2.ApiKey(scopes=["operator"])
        made = await stub.CreateApiKey(api_key_pb2.CreateApiKeyRequest(api_key=draft))
        self.key, self._key_id = made.secret, made.api_key.key_id
        await self.renew()

    async def forecast(self) -> None:
        """A forecast that is fitted: a worker loads a large library for its first."""
        start = datetime.now(UTC).replace(hour=12, minute=0) - timedelta(days=56)
        rows = []
        for day in range(56):
            stamp = Timestamp()
            stamp.FromDatetime(start + timedelta(days=day))
            rows += [
                interaction_pb2.Interaction(
                    user_id=USERS[number],
                    entity=EntityRef(entity_type="book", entity_id=BOOKS[0]),
                    interaction_type="like",
                    timestamp=stamp,
                )
                for number in range((2, 1, 1, 1, 3, 6, 4)[day % 7])
            ]
        interactions = interaction_pb2_grpc.InteractionServiceStub(self._channel)
        batch = interaction_pb2.IngestInteractionsRequest(interactions=rows)
        call = interactions.IngestInteractions(iter([batch]), metadata=self.metadata(MAIN))
        assert [answer.stored_count async for answer in call] == [len(rows)]
        entity = EntityRef(entity_type="book", entity_id=BOOKS[0])
        demand = demand_pb2_grpc.DemandServiceStub(self._channel)
        asked = demand_pb2.ForecastDemandRequest(entity=entity)
        answer = await self._do(demand.ForecastDemand, asked)
        assert "exponential_smoothing" in answer.errors

    async def renew(self) -> None:
        """Everything there again, whatever was deleted."""
        for tenant in (MAIN, OTHER, *THROWN_AWAY):
            await self._make_tenant(tenant)
        for tenant in (MAIN, OTHER):
            await self._fill(tenant)
        await self._models()

    async def _do(self, start: Any, request: Any, tenant: str = MAIN) -> Any:
        """A call; None where it was refused, as what is there already is."""
        try:
            return await start(request, metadata=self.metadata(tenant), timeout=_SECS)
        except grpc.aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}:
                raise
            return None

    def metadata(self, tenant: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.key}"), ("x-tenant-id", tenant)]

    async def _make_tenant(self, tenant_id: str) -> None:
        stub = admin_pb2_grpc.AdminServiceStub(self._channel)
        tenant = admin_pb2.Tenant(tenant_id=tenant_id, dimension=DIMENSION)
        await self._do(stub.CreateTenant, admin_pb2.CreateTenantRequest(tenant=tenant))

    async def _fill(self, tenant: str) -> None:
        admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        for kind in _KINDS:
            await self._do(
                admin.SetInteractionType,
                admin_pb2.SetInteractionTypeRequest(
                    tenant_id=tenant,
                    interaction_type=admin_pb2.InteractionType(interaction_type=kind, weight=1),
                ),
            )
        entities = entity_pb2_grpc.EntityServiceStub(self._channel)
        await self._do(entities.BatchUpsertEntities, _books(), tenant)
        interactions = interaction_pb2_grpc.InteractionServiceStub(self._channel)
        for user in USERS:
            for number in range(4):
                await self._do(interactions.IngestInteraction, _likes(user, number), tenant)
        embeddings = embedding_pb2_grpc.EmbeddingServiceStub(self._channel)
        saved = embedding_pb2.SaveEmbeddingsRequest()
        for number, book in enumerate(BOOKS[:10]):
            row = saved.embeddings.add(version="v1", values=[number, *range(1, DIMENSION)])
            row.entity.entity_type, row.entity.entity_id = "book", book
        await self._do(embeddings.SaveEmbeddings, saved, tenant)
        stub = recommendation_pb2_grpc.RecommendationServiceStub(self._channel)
        for user in USERS[:3]:
            asked = recommendation_pb2.RecommendRequest(user_id=user, page_size=5, record=True)
            answer = await self._do(stub.Recommend, asked, tenant)
            if answer is not None:
                self.hear(answer)

    async def _models(self) -> None:
        stub = model_pb2_grpc.ModelServiceStub(self._channel)
        for name in ("knn", "fresh"):
            model = model_pb2.Model(name=name, algorithm="item_knn")
            await self._do(stub.CreateModel, model_pb2.CreateModelRequest(model=model))
        admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        found = await self._do(admin.GetTenant, admin_pb2.GetTenantRequest(tenant_id=MAIN))
        made_at = found.tenant.created_at.ToDatetime(tzinfo=UTC).isoformat()
        path = self._home / f"{time.time_ns()}.safetensors"
        write_artefact(
            fitted(time.time_ns() % 1000),
            path,
            {
                "algorithm": "item_knn",
                "model": "knn",
                "hyperparameters": {"k": 500, "similarity": "bm25"},
                "statistics": STATISTICS,
                "tenant_id": MAIN,
                "tenant_created_at": made_at,
            },
        )
        content = path.read_bytes()
        path.unlink()

        manifest = model_pb2.ModelManifest(
            model="knn",
            content_hash=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            manifest_json="{}",
        )
        parts = [
            model_pb2.ImportModelRequest(manifest=manifest),
            model_pb2.ImportModelRequest(chunk=content),
        ]
        self.import_ = [part.SerializeToString() for part in parts]
        sent = await self._do(stub.ImportModel, iter(parts))
        if sent is not None:
            self.hear(sent)
            await self._do(stub.PromoteVersion, model_pb2.PromoteVersionRequest(name="knn"))
        operation = await self._do(stub.TrainModel, model_pb2.TrainModelRequest(name="fresh"))
        if operation is not None:
            self.hear(operation)


_HEARD: dict[str, tuple[str, ...]] = {
    "next_page_token": ("page_token",),
    "freshness_token": ("at_least_as_fresh",),
    "recommendation_id": ("recommendation_id",),
    "interaction_id": ("interaction_id", "interaction_ids"),
    "version": ("version", "versions", "model_version"),
    "receipt_id": ("receipt_id",),
    "key_id": ("key_id",),
    "name": ("operation",),
    "content_hash": ("content_hash",),
}


def _books() -> entity_pb2.BatchUpsertEntitiesRequest:
    request = entity_pb2.BatchUpsertEntitiesRequest()
    for number, book in enumerate(BOOKS):
        row = request.requests.add().entity
        row.entity.entity_type, row.entity.entity_id = "book", book
        row.attributes.update(
            {
                "title": f"Book {number}",
                "genres": [("sf", "crime", "romance")[number % 3]],
                "year": 1960 + number,
                "sold": number % 2 == 0,
                "author": {"name": f"Ann {number % 5}"},
            }
        )
    return request


def _likes(user: str, number: int) -> interaction_pb2.IngestInteractionRequest:
    book = BOOKS[(7 * number + USERS.index(user)) % len(BOOKS)]
    request = interaction_pb2.IngestInteractionRequest()
    done = request.interaction
    done.user_id, done.interaction_type = user, "like"
    done.interaction_id = f"i-{user}-{number}"
    done.entity.entity_type, done.entity.entity_id = "book", book
    metadata = Struct()
    metadata.update({"from": "shop"})
    done.metadata.CopyFrom(metadata)
    return request
