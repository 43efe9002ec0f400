"""What `penchant serve` never tells: secrets anywhere, and users' ids in its log."""

import asyncio
import base64
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import grpc
import pytest
import redis
from penchant.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    api_key_pb2,
    api_key_pb2_grpc,
    entity_pb2,
    interaction_pb2,
    interaction_pb2_grpc,
    privacy_pb2,
    privacy_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

from tests.faults.conftest import socket_of
from tests.faults.proxy import Proxy, proxied
from tests.service.processes import RunningService, Services, eventually, free_port, penchant

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

PASSWORD = "Geheim/Post:gres#1"
REDIS_PASSWORD = "Geheim/Re@dis#2"
PEPPER = "Geheim-Pfeffer-0123456789abcdef0123456789"
USER = "Zacharias-Quux-771"
OTHER = "Ottilie-Quux-772"
SESSION = "Sitzung-Quux-773"
TENANT = "default"
JWT = ".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=").decode()
    for part in (
        b'{"alg":"RS256","kid":"k"}',
        b'{"sub":"Geheimtraeger","tenant":"default"}',
        b"Geheime-Unterschrift-0123456789",
    )
)
BOOK = {"entity_type": "book", "entity_id": "b1"}

# A row that PostgreSQL refuses, with a message that shows all of it.
TRAP = """
ALTER TABLE interactions ADD CONSTRAINT trap CHECK (entity_id <> 'trap') NOT VALID
"""


@dataclass
class World:
    """A service whose backends can be taken away, and everything that it said to its callers."""

    service: RunningService
    variables: dict[str, str]
    postgres: Proxy
    redis: Proxy
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def call(self, start: Any, request: Any, **metadata: str) -> Any:
        """Calls, however it ends; what the caller was told of an error is kept."""
        given = {"x-request-id": f"rq-{len(self.asked)}-", "x-tenant-id": TENANT}
        given |= {key.replace("_", "-"): text for key, text in metadata.items()}
        if "x_request_id" not in metadata:
            self.asked.append(given["x-request-id"])
        try:
            return await start(request, metadata=tuple(given.items()), timeout=20)
        except grpc.aio.AioRpcError as error:
            self.told += [error.details() or "", str(error.trailing_metadata())]
            return None


@asynccontextmanager
async def urls(
    database_url: str, redis_url: str
) -> AsyncIterator[tuple[dict[str, str], Proxy, Proxy]]:
    """Ways to the two servers that can be closed, and their URLs with passwords in them."""
    database = urlsplit(database_url)
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "alice", "on", f">{REDIS_PASSWORD}", "~*", "+@all")
    async with (
        proxied(socket_of(database_url)) as postgres,
        proxied(socket_of(redis_url)) as cache,
    ):
        login, secret = quote(PASSWORD, safe=""), quote(REDIS_PASSWORD, safe="")
        variables = {
            "DATABASE_URL": (
                f"postgresql://{database.username}:{login}@127.0.0.1:{postgres.port}{database.path}"
            ),
            "REDIS_URL": f"redis://alice:{secret}@127.0.0.1:{cache.port}/0",
        }
        yield variables, postgres, cache


@asynccontextmanager
async def world(
    services: Services, database_url: str, redis_url: str, log_format: str
) -> AsyncIterator[World]:
    async with urls(database_url, redis_url) as (variables, postgres, cache):
        variables |= {
            "PENCHANT_KEY_PEPPER": PEPPER,
            "PENCHANT_DATA_DIR": str(services.home / "data"),
            "PENCHANT_METRICS_PORT": str(free_port()),
            "PENCHANT_LOG_FORMAT": log_format,
            "PENCHANT_ANSWER_LOG_SAMPLE": "1",
            "PENCHANT_ACCESS_LOG_SAMPLE": "1",
            "PENCHANT_RETENTION_INTERVAL_SECS": "1",
            "PENCHANT_SHUTDOWN_GRACE_SECS": "1",
        }
        service = services.launch(port=free_port(), **variables)
        try:
            await asyncio.to_thread(
                eventually, lambda: "Penchant serves on" in service.log, "serving", 120
            )
            found = re.search(r"serves on [\d.]+:(\d+)", service.log)
            assert found is not None
            service.port = int(found[1])
            yield World(service, variables, postgres, cache)
        finally:
            await asyncio.to_thread(service.stop)


def secrets_of(*keys: str) -> set[str]:
    """Texts that give something away, in each form in which they could be written."""
    plain = {PASSWORD, REDIS_PASSWORD, PEPPER, JWT, *JWT.split("."), *keys}
    plain |= {key.rpartition("_")[2] for key in keys}
    return plain | {quote(text, safe="") for text in plain} | {json.dumps(t)[1:-1] for t in plain}


async def use(at: World, channel: grpc.aio.Channel, **metadata: str) -> None:
    """Calls that name users: good ones, bad ones, and one that is a fault of the service."""
    interactions: Any = interaction_pb2_grpc.InteractionServiceStub(channel)
    recommendations: Any = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    admin: Any = admin_pb2_grpc.AdminServiceStub(channel)
    privacy: Any = privacy_pb2_grpc.PrivacyServiceStub(channel)

    def liked(**fields: Any) -> interaction_pb2.IngestInteractionRequest:
        given = {"user_id": USER, "entity": BOOK, "interaction_type": "like", **fields}
        return interaction_pb2.IngestInteractionRequest(interaction=given)

    calls: list[tuple[Callable[..., Awaitable[Any]], Any]] = [
        (interactions.IngestInteraction, liked()),
        (interactions.IngestInteraction, liked(user_id="", session_id=SESSION)),
        (interactions.IngestInteraction, liked(user_id=f"{USER}\n")),
        (interactions.IngestInteraction, liked(user_id=USER * 99)),
        (interactions.IngestInteraction, liked(entity={**BOOK, "entity_id": "trap"})),
        (interactions.ListInteractions, interaction_pb2.ListInteractionsRequest(user_id=USER)),
        (
            interactions.ListInteractions,
            interaction_pb2.ListInteractionsRequest(user_id=USER, page_token="nonsense"),
        ),
        (
            recommendations.Recommend,
            recommendation_pb2.RecommendRequest(user_id=USER, explain=True),
        ),
        (
            recommendations.Recommend,
            recommendation_pb2.RecommendRequest(user_id=USER, filter=f'name = "{USER}" ('),
        ),
        (
            recommendations.SimilarUsers,
            recommendation_pb2.SimilarUsersRequest(user_id=USER),
        ),
        (
            recommendations.Recommend,
            recommendation_pb2.RecommendRequest(user_id=f"{USER}\x00"),
        ),
        (
            interactions.MergeUsers,
            interaction_pb2.MergeUsersRequest(source_user_id=OTHER, target_user_id=USER),
        ),
        (
            interactions.DeleteInteractions,
            interaction_pb2.DeleteInteractionsRequest(session_id=SESSION),
        ),
        (
            admin.InvalidateCache,
            admin_pb2.InvalidateCacheRequest(tenant_id=TENANT, user_id=USER),
        ),
        (
            admin.InvalidateCache,
            admin_pb2.InvalidateCacheRequest(tenant_id=TENANT, pattern=f"{USER[:-1]}*"),
        ),
        (privacy.EraseUser, privacy_pb2.EraseUserRequest(user_id=OTHER)),
        (privacy.VerifyErasure, privacy_pb2.VerifyErasureRequest(user_id=OTHER)),
        (interactions.IngestInteraction, liked(user_id=OTHER)),
    ]
    for start, request in calls:
        await at.call(start, request, **metadata)


async def refuse(at: World, channel: grpc.aio.Channel, key: str) -> None:
    """Calls whose credentials are wrong, or stand where they do not belong."""
    recommendations: Any = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    keys: Any = api_key_pb2_grpc.ApiKeyServiceStub(channel)
    request = recommendation_pb2.RecommendRequest(user_id=USER)
    altered = key[:-1] + ("a" if key[-1] != "a" else "b")
    bearer = {"authorization": f"Bearer {key}"}
    for metadata in (
        {},
        {"authorization": f"Bearer {altered}"},
        {"authorization": f"Bearer {JWT}"},
        {"authorization": key},
        {"x_api_key": JWT},
        {"x_api_key": altered, "authorization": f"Bearer {JWT}"},
        {**bearer, "x_tenant_id": key},
        {**bearer, "x_tenant_id": f"no {USER}"},
        {**bearer, "x_request_id": f"{key} "},
    ):
        await at.call(recommendations.Recommend, request, **metadata)
    mistaken = api_key_pb2.RevokeApiKeyRequest(key_id=key)
    await at.call(keys.RevokeApiKey, mistaken, **bearer)
    start = channel.unary_unary("/penchant.v1.EntityService/GetEntity")
    await at.call(start, b"\xff" + USER.encode() + key.encode(), **bearer)
    start = channel.unary_unary(f"/penchant.v1.EntityService/{USER}")
    # What is no method of the service does not come to the edge, and has no line.
    await at.call(start, entity_pb2.GetEntityRequest().SerializeToString(), x_request_id="gone")


@pytest.mark.parametrize(("log_format", "nobody"), [("json", "null"), ("console", "None")])
async def test_nothing_secret_is_told(
    services: Services, database_url: str, redis_url: str, log_format: str, nobody: str
) -> None:
    """Nor is a user named in the log; what belongs to a call says of which, and for whom."""
    async with world(services, database_url, redis_url, log_format) as at:
        connection = await asyncpg.connect(database_url)
        await connection.execute(TRAP)
        await connection.close()
        async with grpc.aio.insecure_channel(at.service.target) as channel:
            await use(at, channel)
            key = await first_key(at, channel)
            await use(at, channel, authorization=f"Bearer {key}")
            await refuse(at, channel, key)
            at.redis.refuse()
            at.postgres.refuse()
            await asyncio.sleep(1)
            await use(at, channel, authorization=f"Bearer {key}")
            await refuse(at, channel, key)
            await asyncio.to_thread(
                eventually, lambda: all(name in at.service.log for name in at.asked), "all lines"
            )
        url = f"http://127.0.0.1:{at.variables['PENCHANT_METRICS_PORT']}/metrics"
        at.told.append(await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode()))
        log = at.service.log

    assert "violates check constraint" in log, "no fault was provoked"
    texts = [log, *at.told]
    assert [text for text in texts for secret in secrets_of(key) if secret in text] == []
    assert [text for text in texts if "Geheim" in text] == []
    assert [line for line in log.splitlines() if "Quux" in line] == []
    lines = [line for line in log.splitlines() if of(line, "request_id") in at.asked]
    assert {of(line, "request_id") for line in lines if of(line, "code")} == set(at.asked)
    assert {of(line, "tenant_id") for line in lines} == {TENANT, nobody}


async def first_key(at: World, channel: grpc.aio.Channel) -> str:
    """An operator's key, which is told once, to whom it is for."""
    keys: Any = api_key_pb2_grpc.ApiKeyServiceStub(channel)
    request = api_key_pb2.CreateApiKeyRequest(api_key={"scopes": ["operator"]})
    answer = await at.call(keys.CreateApiKey, request)
    assert answer is not None, at.told[-2:]
    return str(answer.secret)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, 0),
        ({"DATABASE_URL": f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/x"}, 1),
        ({"DATABASE_URL": f"postgresql://me:{PASSWORD}@127.0.0.1/x"}, 2),
        ({"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1/0"}, 2),
        ({"PENCHANT_KEY_PEPPER": "Geheim-kurz"}, 2),
    ],
    ids=["well", "away", "torn", "torn-redis", "short"],
)
async def test_doctor_tells_no_secret(
    tmp_path: Path, database_url: str, redis_url: str, changed: dict[str, str], code: int
) -> None:
    async with urls(database_url, redis_url) as (variables, _, _):
        done = await asyncio.to_thread(
            penchant, tmp_path, "doctor", **variables | {"PENCHANT_KEY_PEPPER": PEPPER} | changed
        )
    assert done.returncode == code, done.stderr
    assert "Geheim" not in done.stdout + done.stderr
    assert PEPPER[-32:] not in done.stdout + done.stderr


def of(line: str, fact: str) -> str | None:
    """What a line of either form says of a fact."""
    found = re.search(rf'\b{fact}"?[=:]"?([\w-]+)', re.sub(r"\x1b\[[0-9;]*m", "", line))
    return found and found[1]
