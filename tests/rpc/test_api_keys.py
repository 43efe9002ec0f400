"""ApiKeyService, and keys at work."""

import asyncio
import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from penchant import Client, PermissionDenied, SyncClient
from penchant.v1 import api_key_pb2 as pb
from penchant.v1 import api_key_pb2_grpc, interaction_pb2, recommendation_pb2

from tests.rpc.conftest import Refusal, Service, interaction, refusal_of
from tests.rpc.keys import make_key, metadata_of, refused, send

LIST = "/penchant.v1.EntityService/ListEntities"
KEY = re.compile(r"pk_([a-z2-7]{12})_[A-Za-z0-9]{43}")
DAY = 86400


class Keys:
    """ApiKeyService for a caller with a key."""

    def __init__(self, service: Service, key: str | None) -> None:
        self._stub: Any = api_key_pb2_grpc.ApiKeyServiceStub(service.channel)
        self._key = key

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(
            request, metadata=metadata_of(self._key), timeout=20
        )

    async def refused(self, method: str, request: Any) -> Refusal:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request)
        return refusal_of(caught.value)

    async def create(self, tenant_id: str, *scopes: str, **fields: Any) -> Any:
        key = pb.ApiKey(tenant_id=tenant_id, scopes=scopes, **fields)
        return await self.call("CreateApiKey", pb.CreateApiKeyRequest(api_key=key))

    async def get(self, key_id: str, tenant_id: str = "a") -> Any:
        request = pb.GetApiKeyRequest(tenant_id=tenant_id, key_id=key_id)
        return (await self.call("GetApiKey", request)).api_key


@pytest.fixture
async def operator(service: Service) -> Keys:
    """The operator, with a key."""
    return Keys(service, await make_key(service, "", "operator"))


async def works(service: Service, key: str) -> bool:
    return await outcome(service, key) != "INVALID_CREDENTIALS"


async def until_ended(service: Service, key: str) -> None:
    async with asyncio.timeout(10):
        while await works(service, key):
            pass


async def outcome(service: Service, key: str | None) -> str:
    """Why a call was refused; empty when it was not."""
    try:
        await send(service, LIST, b"", metadata_of(key))
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason
    return ""


async def test_created_key_is_shown_once_and_works(service: Service, operator: Keys) -> None:
    made = await operator.create("a", "recommend:read", "entities:write", display_name="shop")
    match = KEY.fullmatch(made.secret)
    assert match is not None
    assert made.api_key.key_id == match[1]
    assert list(made.api_key.scopes) == ["entities:write", "recommend:read"]
    assert (made.api_key.display_name, made.api_key.tenant_id) == ("shop", "a")
    assert not made.api_key.HasField("expires_at")
    assert not made.api_key.HasField("revoked_at")
    assert await operator.get(match[1]) == made.api_key
    assert await works(service, made.secret)


async def test_first_key_may_be_made_by_anybody_and_ends_that(service: Service) -> None:
    everybody = Keys(service, None)
    await everybody.create("", "operator")
    async with asyncio.timeout(10):
        while not (reason := await outcome(service, None)):
            pass
    assert reason == "UNAUTHENTICATED"


async def test_keys_are_listed_in_pages_without_secrets(service: Service, operator: Keys) -> None:
    made = [await operator.create("a", "recommend:read") for _ in range(5)]
    found: list[Any] = []
    request = pb.ListApiKeysRequest(tenant_id="a", page_size=2)
    while True:
        page = await operator.call("ListApiKeys", request)
        found += page.api_keys
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert [key.key_id for key in found] == sorted(one.api_key.key_id for one in made)
    secrets = [one.secret.rpartition("_")[2] for one in made]
    assert not any(secret in str(found) for secret in secrets)
    own = await operator.call("ListApiKeys", pb.ListApiKeysRequest())
    assert [list(key.scopes) for key in own.api_keys] == [["operator"]]


async def test_rotated_keys_overlap(service: Service, operator: Keys) -> None:
    ends = datetime.now(UTC) + timedelta(days=30)
    first = await operator.create("a", "recommend:read", display_name="n", expires_at=ends)
    request = pb.RotateApiKeyRequest(tenant_id="a", key_id=first.api_key.key_id)
    second = await operator.call("RotateApiKey", request)
    assert second.api_key.rotated_from == first.api_key.key_id
    assert list(second.api_key.scopes) == ["recommend:read"]
    assert second.api_key.display_name == "n"
    # It lives as long as the first was to, and the first for a day.
    assert second.api_key.expires_at.seconds == pytest.approx(ends.timestamp(), abs=60)
    assert second.old.expires_at.seconds == pytest.approx(
        datetime.now(UTC).timestamp() + DAY, abs=60
    )
    assert await works(service, first.secret)
    assert await works(service, second.secret)
    request.overlap.CopyFrom(Duration())
    third = await operator.call("RotateApiKey", request)
    await until_ended(service, first.secret)
    assert await works(service, third.secret)
    refusal = await operator.refused("RotateApiKey", request)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "KEY_ENDED")


async def test_rotation_leaves_an_earlier_end(service: Service, operator: Keys) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    first = await operator.create("a", "recommend:read", expires_at=ends)
    request = pb.RotateApiKeyRequest(
        tenant_id="a", key_id=first.api_key.key_id, overlap=Duration(seconds=90 * DAY)
    )
    second = await operator.call("RotateApiKey", request)
    assert second.old.expires_at == first.api_key.expires_at


async def test_revoked_key_ends_and_stays_listed(service: Service, operator: Keys) -> None:
    made = await operator.create("a", "recommend:read")
    assert await works(service, made.secret)
    request = pb.RevokeApiKeyRequest(tenant_id="a", key_id=made.api_key.key_id)
    revoked = (await operator.call("RevokeApiKey", request)).api_key
    again = (await operator.call("RevokeApiKey", request)).api_key
    assert revoked.HasField("revoked_at")
    assert again.revoked_at == revoked.revoked_at
    await until_ended(service, made.secret)
    assert (await operator.get(made.api_key.key_id)).HasField("revoked_at")


async def test_call_that_was_begun_before_its_key_ended_gets_no_answer(
    service: Service, operator: Keys
) -> None:
    """However long its message takes to come: neither a ready answer nor a new one."""
    made = await operator.create("a", "recommend:read")
    metadata = metadata_of(made.secret)
    request = recommendation_pb2.RecommendRequest()
    for _ in range(3):
        await service.recommendation.Recommend(request, metadata=metadata)
    begin: Any = service.channel.stream_unary("/penchant.v1.RecommendationService/Recommend")
    call = begin(metadata=metadata, timeout=30)
    await call.wait_for_connection()
    revoke = pb.RevokeApiKeyRequest(tenant_id="a", key_id=made.api_key.key_id)
    await operator.call("RevokeApiKey", revoke)
    await until_ended(service, made.secret)
    await asyncio.sleep(1)

    await call.write(request.SerializeToString())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_key_ends_by_itself(
    service: Service, operator: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    made = await operator.create("a", "recommend:read", expires_at=ends)
    now = ends - timedelta(microseconds=1)
    monkeypatch.setattr(service.deps.key_ring, "_clock", lambda: now)
    assert await works(service, made.secret)
    now = ends
    await until_ended(service, made.secret)


async def test_use_is_noted(service: Service, operator: Keys) -> None:
    made = await operator.create("a", "recommend:read")
    assert not made.api_key.HasField("last_used_at")
    assert await works(service, made.secret)
    async with asyncio.timeout(20):
        while not (await operator.get(made.api_key.key_id)).HasField("last_used_at"):
            pass


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scopes": []}, "api_key.scopes"),
        ({"scopes": ["read"]}, "api_key.scopes"),
        ({"scopes": ["operator"]}, "api_key.scopes"),
        ({"display_name": "x" * 256}, "api_key.display_name"),
        ({"display_name": "\n"}, "api_key.display_name"),
        ({"tenant_id": "No Tenant"}, "api_key.tenant_id"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "api_key.expires_at"),
    ],
)
async def test_key_that_cannot_be_is_refused(
    operator: Keys, fields: dict[str, Any], field: str
) -> None:
    key = pb.ApiKey(**{"tenant_id": "a", "scopes": ["recommend:read"], **fields})
    refusal = await operator.refused("CreateApiKey", pb.CreateApiKeyRequest(api_key=key))
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_key_for_no_tenant_is_not_made(operator: Keys) -> None:
    key = pb.ApiKey(tenant_id="nobody", scopes=["recommend:read"])
    refusal = await operator.refused("CreateApiKey", pb.CreateApiKeyRequest(api_key=key))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")


@pytest.mark.parametrize("overlap", [Duration(seconds=-1), Duration(seconds=90 * DAY + 1)])
async def test_overlap_outside_its_limits_is_refused(operator: Keys, overlap: Duration) -> None:
    made = await operator.create("a", "recommend:read")
    request = pb.RotateApiKeyRequest(tenant_id="a", key_id=made.api_key.key_id, overlap=overlap)
    refusal = await operator.refused("RotateApiKey", request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["overlap"])


@pytest.mark.parametrize("method", ["GetApiKey", "RotateApiKey", "RevokeApiKey"])
async def test_key_of_another_owner_is_not_found(operator: Keys, method: str) -> None:
    made = await operator.create("a", "recommend:read")
    request_of = getattr(pb, f"{method}Request")
    for key_id, tenant_id in (
        (made.api_key.key_id, ""),
        ("aaaaaaaaaaaa", "a"),
        (made.secret, "a"),
    ):
        refusal = await operator.refused(method, request_of(tenant_id=tenant_id, key_id=key_id))
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "KEY_NOT_FOUND")
        assert made.secret not in refusal.message
    refusal = await operator.refused(method, request_of(tenant_id="a"))
    assert list(refusal.fields) == ["key_id"]


async def test_nobody_gives_away_more_than_they_have(service: Service, operator: Keys) -> None:
    admin = Keys(service, (await operator.create("a", "tenant:admin")).secret)
    reader = await admin.create("a", "recommend:read")
    assert await works(service, (await admin.create("a", "recommend:read")).secret)
    key = pb.ApiKey(tenant_id="a", scopes=["operator"])
    refusal = await admin.refused("CreateApiKey", pb.CreateApiKeyRequest(api_key=key))
    assert refusal.code == "INVALID_ARGUMENT"
    request = pb.CreateApiKeyRequest(api_key=pb.ApiKey(tenant_id="a", scopes=["recommend:read"]))
    refusal = await Keys(service, reader.secret).refused("CreateApiKey", request)
    assert (refusal.reason, refusal.metadata) == ("SCOPE_MISSING", {"scope": "tenant:admin"})


async def test_administrator_of_all_tenants_is_no_operator(
    service: Service, operator: Keys
) -> None:
    """Not by a new key, and not by rotating the operator's."""
    admin = Keys(service, await make_key(service, "", "tenant:admin"))
    (own, *_) = (await operator.call("ListApiKeys", pb.ListApiKeysRequest())).api_keys
    refusals = [
        await admin.refused(
            "CreateApiKey",
            pb.CreateApiKeyRequest(api_key=pb.ApiKey(scopes=["operator"])),
        ),
        await admin.refused("RotateApiKey", pb.RotateApiKeyRequest(key_id=own.key_id)),
        await admin.refused("RevokeApiKey", pb.RevokeApiKeyRequest(key_id=own.key_id)),
        await admin.refused("ListApiKeys", pb.ListApiKeysRequest()),
    ]
    assert {(one.reason, one.metadata["scope"]) for one in refusals} == {
        ("SCOPE_MISSING", "operator")
    }
    assert (await admin.create("a", "tenant:admin")).api_key.tenant_id == "a"


async def test_stored_rows_open_nothing(service: Service, operator: Keys) -> None:
    """What somebody has who has read the whole table."""
    made = await operator.create("a", "recommend:read")
    text = made.secret
    url = service.settings.database.url
    assert url is not None
    connection = await asyncpg.connect(url.get_secret_value())
    try:
        await connection.execute("SET ROLE penchant_maintenance")
        rows = await connection.fetch("SELECT * FROM api_keys WHERE key_id = $1", text[3:15])
    finally:
        await connection.close()
    (row,) = rows
    stored = row["secret_hash"]
    assert text.rpartition("_")[2] not in str(dict(row))
    assert stored != hashlib.blake2b(text.encode(), digest_size=32).digest()
    assert stored != hashlib.sha256(text.encode()).digest()
    guesses = [
        stored.hex(),
        base64.urlsafe_b64encode(stored).decode().rstrip("="),
        f"pk_{row['key_id']}_{stored.hex()}",
        f"pk_{row['key_id']}_{stored.hex()[:43]}",
        f"pk_{row['key_id']}_{'A' * 43}",
    ]
    for guess in guesses:
        refusal = await refused(service, LIST, b"", metadata_of(guess))
        assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "INVALID_CREDENTIALS")
    assert await works(service, text)


async def test_stream_ends_when_its_key_is_revoked(service: Service, operator: Keys) -> None:
    made = await operator.create("a", "interactions:write")

    batch = interaction_pb2.IngestInteractionsRequest(interactions=[interaction()])
    call: Any = service.interaction.IngestInteractions(metadata=metadata_of(made.secret))
    await call.write(batch)
    await call.read()
    request = pb.RevokeApiKeyRequest(tenant_id="a", key_id=made.api_key.key_id)
    await operator.call("RevokeApiKey", request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(20):
            while True:
                await call.write(batch)
                await call.read()
    assert refusal_of(caught.value).reason == "INVALID_CREDENTIALS"


async def test_client_makes_rotates_and_revokes_keys(service: Service) -> None:
    target = f"127.0.0.1:{service.port}"
    operator = await make_key(service, "", "operator")
    async with Client(target, api_key=operator, timeout=20) as client:
        made = await client.keys.create("a", ["recommend:read"], display_name="shop")
        key_id = made.api_key.key_id
        new = await client.keys.rotate("a", key_id, overlap=timedelta(hours=1))
        assert new.old.key_id == (await client.keys.get("a", key_id)).key_id == key_id
        listed = [key.key_id async for key in client.keys.list("a", page_size=1)]
        assert listed == sorted([key_id, new.api_key.key_id])
        assert (await client.keys.revoke("a", key_id)).HasField("revoked_at")
    async with Client(target, api_key=new.secret, timeout=20) as client:
        assert [entity async for entity in client.list_entities()] == []
        with pytest.raises(PermissionDenied):
            await client.keys.revoke("a", key_id)


async def test_blocking_client_makes_keys_too(service: Service) -> None:
    operator = await make_key(service, "", "operator")

    def work() -> str:
        with SyncClient(f"127.0.0.1:{service.port}", api_key=operator, timeout=20) as client:
            ends = datetime.now(UTC) + timedelta(days=1)
            made = client.keys.create("a", ["recommend:read"], expires_at=ends)
            assert [key.key_id for key in client.keys.list("a")] == [made.api_key.key_id]
            return made.secret

    assert await works(service, await asyncio.to_thread(work))


async def test_keys_of_an_erased_tenant_find_nothing(service: Service, operator: Keys) -> None:
    made = await operator.create("a", "tenant:admin")
    await service.deps.administration.delete_tenant("a")
    refusal = await refused(service, LIST, b"", metadata_of(made.secret))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")
    key = pb.ApiKey(tenant_id="a", scopes=["recommend:read"])
    refusal = await operator.refused("CreateApiKey", pb.CreateApiKeyRequest(api_key=key))
    assert refusal.reason == "TENANT_NOT_FOUND"
