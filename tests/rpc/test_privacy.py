"""Erasing users: what goes, what is refused afterwards, and the receipt that tells of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import orjson
import penchant
import pytest
from google.longrunning import operations_pb2
from penchant import Client, SyncClient
from penchant.v1 import (
    admin_pb2,
    embedding_pb2,
    entity_pb2,
    interaction_pb2,
    model_pb2,
    privacy_pb2,
)

from engine.erasure import RESULT_CACHE
from engine.requests import RecommendQuery
from engine.tombstones import Tombstones
from server.deps import connect
from server.settings import Settings
from storage.config import RedisCacheConfig
from storage.exceptions import Unavailable
from storage.models import ModelStore
from tests.rpc.conftest import Service, interaction, refusal_of


async def erase(service: Service, user_id: str = "ada", **fields: Any) -> Any:
    return await service.call("EraseUser", privacy_pb2.EraseUserRequest(user_id=user_id, **fields))


async def verify(service: Service, user_id: str = "ada") -> Any:
    return await service.call("VerifyErasure", privacy_pb2.VerifyErasureRequest(user_id=user_id))


def counts(found: Any) -> dict[str, int]:
    return {one.store: one.count for one in found if one.count}


async def refused_code(service: Service, method: str, request: Any) -> tuple[str, str]:
    refusal = await service.refused(method, request)
    return refusal.code, refusal.reason


async def live(service: Service, user_id: str = "ada") -> None:
    """A user who left something nearly everywhere."""
    for number in range(3):
        await service.did(user_id, f"b{number:02}")
    await service.put(user_id, entity_type="user", country="uk")
    request = interaction_pb2.IngestInteractionRequest(interaction=interaction(user_id="bob"))
    request.interaction.entity.entity_type = "user"
    request.interaction.entity.entity_id = user_id
    await service.call("IngestInteraction", request)
    save = embedding_pb2.SaveEmbeddingsRequest()
    one = save.embeddings.add(values=[1.0, 2.0])
    one.entity.entity_type, one.entity.entity_id = "user", user_id
    await service.call("SaveEmbeddings", save)
    await service.recommend(user_id)


async def test_erased_user_is_found_nowhere(library: Service):
    await live(library)
    assert counts((await verify(library)).found) == {
        "embeddings": 1,
        "entities": 1,
        "interaction_keys": 4,
        "interactions": 4,
        RESULT_CACHE: 1,
        "user_profiles": 1,
    }
    receipt = (await erase(library)).receipt
    assert counts(receipt.counts) == {
        "embeddings": 1,
        "entities": 1,
        "interaction_keys": 4,
        "interactions": 4,
        RESULT_CACHE: 1,
        "user_profiles": 1,
    }
    found = await verify(library)
    assert (counts(found.found), found.clean, found.refused) == ({}, True, True)
    assert (await library.recommend("ada")).items


async def test_others_keep_what_they_have(library: Service):
    await live(library)
    await library.did("bob", "b07")
    await erase(library)
    found = await verify(library, "bob")
    assert counts(found.found) == {"interaction_keys": 1, "interactions": 1, "user_profiles": 1}
    assert not found.refused


async def test_receipt_says_what_is_signed(library: Service):
    await library.did("yorick", "b00")
    receipt = (await erase(library, "yorick")).receipt
    told = orjson.loads(receipt.payload)
    assert receipt.payload == orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    assert (told["subject"], told["tenant_id"]) == ("user", "a")
    assert told["counts"] == {one.store: one.count for one in receipt.counts}
    assert b"yorick" not in receipt.payload
    again = await library.call(
        "GetErasureReceipt", privacy_pb2.GetErasureReceiptRequest(receipt_id=receipt.receipt_id)
    )
    assert again.receipt == receipt
    key = await library.call("GetReceiptKey", privacy_pb2.GetReceiptKeyRequest())
    assert key.key_id == receipt.key_id


async def test_erasing_again_gives_a_new_receipt(library: Service):
    await library.did("ada", "b00")
    first = (await erase(library)).receipt
    second = (await erase(library)).receipt
    assert first.receipt_id != second.receipt_id
    assert counts(second.counts) == {}


async def test_session_is_erased(library: Service):
    request = interaction_pb2.IngestInteractionRequest(
        interaction=interaction(user_id=None, session_id="s1")
    )
    await library.call("IngestInteraction", request)
    response = await library.call("EraseUser", privacy_pb2.EraseUserRequest(session_id="s1"))
    assert counts(response.receipt.counts)["interactions"] == 1
    assert await refused_code(library, "IngestInteraction", request) == (
        "FAILED_PRECONDITION",
        "USER_ERASED",
    )


async def test_writes_for_an_erased_user_are_refused(library: Service):
    await library.did("ada", "b00")
    await library.did("bob", "b00")
    await erase(library)
    erased = ("FAILED_PRECONDITION", "USER_ERASED")
    ingest = interaction_pb2.IngestInteractionRequest(interaction=interaction())
    assert await refused_code(library, "IngestInteraction", ingest) == erased
    about = interaction_pb2.IngestInteractionRequest(interaction=interaction(user_id="bob"))
    about.interaction.entity.entity_type, about.interaction.entity.entity_id = "user", "ada"
    assert await refused_code(library, "IngestInteraction", about) == erased
    entity = entity_pb2.UpsertEntityRequest()
    entity.entity.entity.entity_type, entity.entity.entity.entity_id = "user", "ada"
    assert await refused_code(library, "UpsertEntity", entity) == erased
    save = embedding_pb2.SaveEmbeddingsRequest()
    one = save.embeddings.add(values=[1.0])
    one.entity.entity_type, one.entity.entity_id = "user", "ada"
    assert await refused_code(library, "SaveEmbeddings", save) == erased
    for source, target in (("bob", "ada"), ("ada", "bob")):
        merge = interaction_pb2.MergeUsersRequest(source_user_id=source, target_user_id=target)
        assert await refused_code(library, "MergeUsers", merge) == erased
    assert (await verify(library)).clean


async def test_other_rows_of_a_batch_are_stored(library: Service):
    await erase(library)
    batch = interaction_pb2.IngestInteractionsRequest(
        sequence=1,
        interactions=[interaction(user_id="bob"), interaction(), interaction(user_id="eve")],
    )
    call = library.interaction.IngestInteractions(
        iter([batch]), metadata=(("x-tenant-id", "a"),), timeout=20
    )
    (answer,) = [one async for one in call]
    assert answer.stored_count == 2
    assert [(e.index, e.reason) for e in answer.errors] == [(1, "USER_ERASED")]
    upserts = entity_pb2.BatchUpsertEntitiesRequest()
    for user_id in ("bob", "ada"):
        entity = upserts.requests.add().entity.entity
        entity.entity_type, entity.entity_id = "user", user_id
    stored = await library.call("BatchUpsertEntities", upserts)
    assert stored.upserted_count == 1
    assert [(e.index, e.reason) for e in stored.errors] == [(1, "USER_ERASED")]


async def test_readmitted_user_is_refused_what_is_older(library: Service):
    await library.did("ada", "b00")
    await erase(library, readmit=True)
    old = interaction(interaction_id="replayed")
    old.timestamp.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    assert await refused_code(
        library, "IngestInteraction", interaction_pb2.IngestInteractionRequest(interaction=old)
    ) == ("FAILED_PRECONDITION", "USER_ERASED")
    await library.did("ada", "b01")
    found = await verify(library)
    assert counts(found.found)["interactions"] == 1
    assert not found.refused


async def test_readmission_later(library: Service):
    readmit = privacy_pb2.ReadmitUserRequest(user_id="ada")
    assert await refused_code(library, "ReadmitUser", readmit) == ("NOT_FOUND", "NOT_FOUND")
    await erase(library)
    await library.call("ReadmitUser", readmit)
    await library.did("ada", "b01")
    save = embedding_pb2.SaveEmbeddingsRequest()
    one = save.embeddings.add(values=[1.0])
    one.entity.entity_type, one.entity.entity_id = "user", "ada"
    await library.call("SaveEmbeddings", save)
    old = interaction(user_id="bob")
    old.timestamp.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    await library.call(
        "IngestInteraction", interaction_pb2.IngestInteractionRequest(interaction=old)
    )
    merge = interaction_pb2.MergeUsersRequest(source_user_id="bob", target_user_id="ada")
    assert await refused_code(library, "MergeUsers", merge) == (
        "FAILED_PRECONDITION",
        "USER_ERASED",
    )


async def test_ingest_while_erasing_is_stored_nowhere(library: Service):
    """Whatever is acknowledged before or refused after: nothing of the user is left."""

    async def ingest(number: int) -> str:
        try:
            await library.did("ada", f"b{number % 60:02}", interaction_id=f"i{number}")
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason
        return "stored"

    for _ in range(3):
        writers = [asyncio.create_task(ingest(number)) for number in range(60)]
        await asyncio.sleep(0.02)
        await erase(library)
        outcomes = await asyncio.gather(*writers)
        assert set(outcomes) <= {"stored", "USER_ERASED"}
        assert (await verify(library)).clean
        await library.call("ReadmitUser", privacy_pb2.ReadmitUserRequest(user_id="ada"))


async def test_both_clients_erase_and_verify(library: Service):
    await library.did("ada", "b00")
    target = f"127.0.0.1:{library.port}"
    async with Client(target, tenant="a", timeout=20) as client:
        erased = await client.erase_user("ada")
        assert erased.receipt.counts["interactions"] == 1
        assert await client.get_erasure_receipt(erased.receipt.receipt_id) == erased.receipt
        assert (await client.get_receipt_key()).key_id == erased.receipt.key_id
        with pytest.raises(penchant.FailedPrecondition):
            await client.ingest("ada", "book", "b1", "like")

    def with_threads() -> penchant.ErasureFindings:
        with SyncClient(target, tenant="a", timeout=20) as client:
            client.readmit_user("ada")
            return client.verify_erasure("ada")

    findings = await asyncio.to_thread(with_threads)
    assert (findings.clean, findings.refused) == (True, False)


async def test_models_that_saw_the_user_are_trained_anew(library: Service):
    models, tenant = ModelStore(library.deps.database), await library.deps.tenants.get("a")
    for name, algorithm in (("m", "popularity"), ("foreign", "sklearn")):
        await models.create(tenant, name, algorithm=algorithm)
    await library.did("ada", "b00")
    await library.did("bob", "b00")
    for name in ("m", "foreign"):
        await models.add_version(
            tenant, name, manifest={}, metadata={}, content_hash="0" * 64, size_bytes=1
        )
    response = await erase(library)
    assert response.receipt.model_versions == ["foreign@1", "m@1"]
    (name,) = response.retrainings
    request = operations_pb2.GetOperationRequest(name=name)
    operation = await library.call("GetOperation", request)
    metadata = model_pb2.TrainModelMetadata()
    assert operation.metadata.Unpack(metadata)
    assert metadata.model == "m"


async def test_other_workers_forget_too(library: Service):
    tenant = await library.deps.tenants.get("a")
    async with connect(library.settings) as other:
        for user_id in ("ada", "bob"):
            query = RecommendQuery(user_id=user_id, request_hash=user_id.encode())
            other.last_good.keep(tenant.tenant_no, query, b"", 0)
        await erase(library)
        await other.erasure_watch.look()
        assert other.last_good.users_of(tenant.tenant_no) == ["bob"]
        await library.call("DeleteTenant", admin_pb2.DeleteTenantRequest(tenant_id="a"))
        await other.erasure_watch.look()
        assert other.last_good.users_of(tenant.tenant_no) == []


async def test_no_receipt_while_redis_is_away(library: Service, settings: Settings):
    await library.did("ada", "b00")
    away = RedisCacheConfig(url="redis://127.0.0.1:1/0")
    async with connect(settings.model_copy(update={"cache": away})) as deps:
        tenant = await deps.tenants.get("a")
        with pytest.raises(Unavailable):
            await deps.privacy.erase(tenant, "ada")
    assert counts((await verify(library)).found) == {}
    assert counts((await erase(library)).receipt.counts)["interactions"] == 1


async def test_receipt_of_another_tenant_is_not_found(library: Service):
    await library.make_tenant("b")
    receipt = (await erase(library)).receipt
    refusal = await library.refused(
        "GetErasureReceipt",
        privacy_pb2.GetErasureReceiptRequest(receipt_id=receipt.receipt_id),
        "b",
    )
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "RECEIPT_NOT_FOUND")


async def test_hash_differs_between_tenants(library: Service):
    tombstones = Tombstones(library.deps.secret)
    assert tombstones.hash("a", "ada") != tombstones.hash("b", "ada")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (privacy_pb2.EraseUserRequest(), "subject"),
        (privacy_pb2.EraseUserRequest(user_id=""), "user_id"),
        (privacy_pb2.EraseUserRequest(user_id="session:x"), "user_id"),
        (privacy_pb2.EraseUserRequest(session_id="x" * 300), "session_id"),
    ],
    ids=["nobody", "empty", "prefix", "long"],
)
async def test_malformed_subject_is_refused(
    service: Service, request_: privacy_pb2.EraseUserRequest, field: str
):
    refusal = await service.refused("EraseUser", request_)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_erased_tenant_leaves_a_receipt(library: Service):
    await live(library)
    wanted = privacy_pb2.GetTenantErasureReceiptRequest(tenant_id="a")
    assert (await library.refused("GetTenantErasureReceipt", wanted, None)).code == "NOT_FOUND"
    await library.call("DeleteTenant", admin_pb2.DeleteTenantRequest(tenant_id="a"))
    refusal = await library.refused("GetTenantErasureReceipt", wanted, None)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "ERASURE_UNDER_WAY")
    await library.run_jobs()
    response = await library.call("GetTenantErasureReceipt", wanted, None)
    found = counts(response.receipt.counts)
    assert (response.receipt.subject, found["entities"], found["interactions"]) == ("tenant", 61, 4)
    assert found[RESULT_CACHE] == 1
