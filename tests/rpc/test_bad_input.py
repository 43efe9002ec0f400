"""Whatever a caller sends, no call ends with INTERNAL or UNKNOWN."""

import asyncio
import math
import struct
import time
import zlib
from collections.abc import Iterator

import grpc
import msgpack
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from penchant.v1 import (
    admin_pb2,
    demand_pb2,
    embedding_pb2,
    entity_pb2,
    interaction_pb2,
    recommendation_pb2,
)
from penchant.v1.common_pb2 import EntityRef

from engine.item_columns import pack_rest
from engine.items import Item, Reason
from engine.page_tokens import encode_token
from server.paging import hash_of
from tests.rpc.conftest import Service, refusal_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
BOOK = EntityRef(entity_type="book", entity_id="b")
DONE = interaction_pb2.Interaction(user_id="ada", entity=BOOK, interaction_type="like")
TENANT = admin_pb2.Tenant(tenant_id="n")
KIND = admin_pb2.InteractionType(interaction_type="nasty", weight=1)

VALID: dict[str, Message] = {
    "Recommend": recommendation_pb2.RecommendRequest(user_id="ada"),
    "BatchRecommend": recommendation_pb2.BatchRecommendRequest(
        requests=[recommendation_pb2.RecommendRequest(user_id="ada")]
    ),
    "SimilarEntities": recommendation_pb2.SimilarEntitiesRequest(entity=BOOK),
    "SimilarUsers": recommendation_pb2.SimilarUsersRequest(user_id="ada"),
    "RecommendUsers": recommendation_pb2.RecommendUsersRequest(entity=BOOK),
    "Trending": recommendation_pb2.TrendingRequest(),
    "Rerank": recommendation_pb2.RerankRequest(user_id="ada", entities=[BOOK]),
    "IngestInteraction": interaction_pb2.IngestInteractionRequest(interaction=DONE),
    "ListInteractions": interaction_pb2.ListInteractionsRequest(user_id="ada"),
    "DeleteInteractions": interaction_pb2.DeleteInteractionsRequest(user_id="ben"),
    "MergeUsers": interaction_pb2.MergeUsersRequest(source_user_id="x", target_user_id="y"),
    "UpsertEntity": entity_pb2.UpsertEntityRequest(entity=entity_pb2.Entity(entity=BOOK)),
    "BatchUpsertEntities": entity_pb2.BatchUpsertEntitiesRequest(
        requests=[entity_pb2.UpsertEntityRequest(entity=entity_pb2.Entity(entity=BOOK))]
    ),
    "GetEntity": entity_pb2.GetEntityRequest(entity=BOOK),
    "ListEntities": entity_pb2.ListEntitiesRequest(),
    "DeleteEntity": entity_pb2.DeleteEntityRequest(
        entity=EntityRef(entity_type="book", entity_id="other")
    ),
    "SaveEmbeddings": embedding_pb2.SaveEmbeddingsRequest(
        embeddings=[embedding_pb2.Embedding(entity=BOOK, values=[1, 2])]
    ),
    "GetEmbedding": embedding_pb2.GetEmbeddingRequest(entity=BOOK),
    "ListEmbeddings": embedding_pb2.ListEmbeddingsRequest(entity_type="book"),
    "GetEmbeddingStats": embedding_pb2.GetEmbeddingStatsRequest(),
    "CleanUpEmbeddings": embedding_pb2.CleanUpEmbeddingsRequest(version="2", entity_type="book"),
    "ForecastDemand": demand_pb2.ForecastDemandRequest(entity=BOOK),
    "CreateTenant": admin_pb2.CreateTenantRequest(tenant=admin_pb2.Tenant(tenant_id="made")),
    "GetTenant": admin_pb2.GetTenantRequest(tenant_id="n"),
    "ListTenants": admin_pb2.ListTenantsRequest(),
    "UpdateTenant": admin_pb2.UpdateTenantRequest(tenant=TENANT),
    "DeleteTenant": admin_pb2.DeleteTenantRequest(tenant_id="nobody"),
    "PlaceTenant": admin_pb2.PlaceTenantRequest(tenant_id="nobody"),
    "SetInteractionType": admin_pb2.SetInteractionTypeRequest(tenant_id="n", interaction_type=KIND),
    "ListInteractionTypes": admin_pb2.ListInteractionTypesRequest(tenant_id="n"),
    "DeleteInteractionType": admin_pb2.DeleteInteractionTypeRequest(
        tenant_id="n", interaction_type="nasty"
    ),
    "GetMigrationVersion": admin_pb2.GetMigrationVersionRequest(),
    "ListMigrations": admin_pb2.ListMigrationsRequest(),
    "RunMigrations": admin_pb2.RunMigrationsRequest(),
    "GetPoolStats": admin_pb2.GetPoolStatsRequest(),
    "GetCacheStats": admin_pb2.GetCacheStatsRequest(),
    "InvalidateCache": admin_pb2.InvalidateCacheRequest(tenant_id="n", all=True),
    "GetIndexStats": admin_pb2.GetIndexStatsRequest(tenant_id="n"),
    "GetQuotas": admin_pb2.GetQuotasRequest(tenant_id="n"),
    "SetQuotas": admin_pb2.SetQuotasRequest(tenant_id="n", quotas=admin_pb2.Quotas(entities=9)),
    "ListAuditEvents": admin_pb2.ListAuditEventsRequest(),
    "VerifyIntegrity": admin_pb2.VerifyIntegrityRequest(tenant_id="n"),
    "GetRecommendation": recommendation_pb2.GetRecommendationRequest(recommendation_id="r"),
    "ReplayRecommendation": recommendation_pb2.ReplayRecommendationRequest(recommendation_id="r"),
    "Explain": recommendation_pb2.ExplainRequest(recommendation_id="r", entity=BOOK),
}

TEXTS = [
    "",
    "\0",
    "a\0b",
    "\n",
    "é" * 150,
    "x" * 5_000,
    "'; DROP TABLE entities; --",
    '$.attributes ? (@ == "a")',
    '") || (1 == 1',
    "%_\\",
    "a = 1e999",
    "a = 99999999999999999999999999",
    'a:"\\u0000" OR b < "\\',
    "NOT " * 600 + "a = 1",
    "(" * 40 + "a = 1" + ")" * 40,
    "a.b.c.d:* AND created_at > '9999-12-31T23:59:59Z'",
    "created_at < '0001-01-01T00:00:00+23:59'",
    "entity_id:*x* OR *y = 1",
    "attributes.",
    "*",
    "session:",
    "\U0010ffff\ufffe\u202e",
]
WHOLE = [0, -1, 1, 2**31 - 1, -(2**31)]
LONG = [*WHOLE, 2**63 - 1, -(2**63)]
REAL = [0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 1e-45, 65_504.0]
T = FieldDescriptor
VALUES = {
    T.TYPE_STRING: TEXTS,
    T.TYPE_INT32: WHOLE,
    T.TYPE_INT64: LONG,
    T.TYPE_DOUBLE: REAL,
    T.TYPE_FLOAT: [0.0, -1.0, math.nan, math.inf, 1e38, 1e-45],
    T.TYPE_BOOL: [False, True],
    T.TYPE_ENUM: [0, 1, 2, 99, -5],
}


def bad_messages(message: Message, depth: int = 0) -> Iterator[Message]:
    """Copies of a message, each with one field that is empty or strange."""
    kind = type(message)
    for field in message.DESCRIPTOR.fields:
        for change in _changes(message, field, depth):
            changed = kind()
            changed.CopyFrom(message)
            try:
                change(changed)
            except ValueError:
                continue  # protobuf itself holds no such value
            yield changed


def _changes(message: Message, field: FieldDescriptor, depth: int):
    name = field.name
    yield lambda m: m.ClearField(name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for value in VALUES.get(field.message_type.fields_by_name["value"].type, ()):
            yield lambda m, v=value: getattr(m, name).update({"content": v, "\0": v})
        if field.message_type.fields_by_name["value"].type == T.TYPE_MESSAGE:  # Struct.fields
            for number in REAL:
                yield lambda m, v=number: setattr(m.fields["k"], "number_value", v)
            for text in TEXTS:
                yield lambda m, v=text: setattr(m.fields[v], "string_value", v)
            yield lambda m: m.fields["unset"].SetInParent()
    elif field.message_type is not None:
        if depth > 4:
            return
        yield lambda m: _inner(m, field).SetInParent()
        for bad in bad_messages(_inner(_copy(message), field), depth + 1):
            yield lambda m, b=bad: _inner(m, field).CopyFrom(b)
    else:
        for value in VALUES[field.type]:
            if field.is_repeated:
                yield lambda m, v=value: getattr(m, name).append(v)
                yield lambda m, v=value: getattr(m, name).extend([v] * 512)
            else:
                yield lambda m, v=value: setattr(m, name, v)


def _copy(message: Message) -> Message:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _inner(message: Message, field: FieldDescriptor) -> Message:
    """The sub-message of a field, the first one of a repeated field; made where it is absent."""
    value = getattr(message, field.name)
    if not field.is_repeated:
        return value
    return value[0] if len(value) else value.add()


async def end_of(service: Service, method: str, request: Message) -> grpc.StatusCode:
    try:
        await service.call(method, request)
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert refusal.reason
        return error.code()
    return grpc.StatusCode.OK


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def filled(standing: Service) -> None:
    """Tenant `n` for what changes tenants, and a book with a reader in `a`."""
    await standing.make_tenant("n")
    await standing.put("b", genre="sf", n=1)
    await standing.did("ada", "b")


async def test_every_method_is_tried(standing: Service):
    methods = {
        name
        for stub in (
            standing.recommendation,
            standing.interaction,
            standing.entity,
            standing.admin,
            standing.embedding,
            standing.demand,
        )
        for name in vars(stub)
    }
    assert set(VALID) == methods - {"IngestInteractions"}


@pytest.mark.parametrize("method", VALID)
async def test_no_input_is_a_fault_of_the_service(standing: Service, method: str):
    request = VALID[method]
    tried = [type(request)(), request, *bad_messages(request)]
    free = asyncio.Semaphore(16)

    async def one(bad: Message) -> grpc.StatusCode:
        async with free:
            return await end_of(standing, method, bad)

    codes = await asyncio.gather(*(one(bad) for bad in tried))
    faults = [
        (code.name, str(bad)[:300])
        for bad, code in zip(tried, codes, strict=True)
        if code in FAULTS
    ]
    assert faults == []


async def test_no_interaction_of_a_stream_is_a_fault_of_the_service(standing: Service):
    rows = list(bad_messages(DONE))
    call = standing.interaction.IngestInteractions(
        iter([interaction_pb2.IngestInteractionsRequest(sequence=-(2**63), interactions=rows)]),
        metadata=(("x-tenant-id", "a"),),
        timeout=30,
    )
    (answer,) = [answer async for answer in call]
    assert answer.errors
    assert {error.code for error in answer.errors} <= {3, 5, 6}
    assert answer.stored_count + answer.duplicate_count + len(answer.errors) == len(rows)


@pytest.mark.parametrize("tenant", ["", "A", "a" * 64, "a'--", "a b", "*", "nobody"])
async def test_no_tenant_name_is_a_fault_of_the_service(standing: Service, tenant: str):
    refusal = await standing.refused("Trending", VALID["Trending"], tenant)
    assert refusal.code in {"INVALID_ARGUMENT", "NOT_FOUND"}


def rest(number: bytes, score: float = 0.5) -> list:
    """The payload of a token that carries an item."""
    columns = msgpack.unpackb(pack_rest([Item(1, "book", "b", score, (Reason("x", 0.5),))]))
    columns[2] = number
    return ["id", msgpack.packb(columns)]


PAYLOADS = {
    "no list": 1,
    "items of another release": ["id", [1, 2]],
    "items that are none": ["id", msgpack.packb([[1], [2]])],
    "items that are no bytes of ours": ["id", b"abc"],
    "items without end": ["id", zlib.compress(bytes(20_000_000))],
    "number too large": rest(struct.pack("<Q", 2**64 - 1)),
    "number negative": rest(struct.pack("<q", -(2**63))),
    "number in half": rest(b"\1"),
    "number of nobody": rest(struct.pack("<q", 2**63 - 1), math.nan),
    "users": [["u", math.nan, 2**64 - 1]],
    "users infinite": [["u", 1, math.inf]],
    "texts": ["\0", "\0"],
    "time": [2**63, "x"],
    "time negative": [-1, "x"],
}
PAGED = {
    "Recommend": "recommend",
    "SimilarEntities": "similar",
    "SimilarUsers": "users",
    "RecommendUsers": "audience",
    "Trending": "trending",
    "ListEntities": "entities",
    "ListInteractions": "interactions",
    "ListTenants": "tenants",
    "ListEmbeddings": "embeddings",
}


@pytest.mark.parametrize("method", PAGED)
async def test_no_page_token_that_a_caller_makes_is_a_fault_of_the_service(
    standing: Service, method: str
):
    request = _copy(VALID[method])
    hashed = hash_of(request, "" if method == "ListTenants" else "a")
    for name, payload in PAYLOADS.items():
        request.page_token = encode_token(PAGED[method], hashed, payload, time.time())
        assert (name, await end_of(standing, method, request)) not in [(name, f) for f in FAULTS]


@pytest.mark.parametrize("method", VALID)
async def test_bytes_that_are_no_message_are_refused(standing: Service, method: str):
    service = VALID[method].DESCRIPTOR.file.services_by_name
    (name,) = (s.full_name for s in service.values() if method in s.methods_by_name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await standing.channel.unary_unary(f"/{name}/{method}")(
            b"\x0a\xff\xff", metadata=(("x-tenant-id", "a"),), timeout=10
        )
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
