"""The whole server put together, with real PostgreSQL and Redis."""

import asyncio
import struct
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from penchant.v1 import admin_pb2, admin_pb2_grpc, entity_pb2, entity_pb2_grpc
from pydantic import SecretStr

from server.backends import bootstrap
from server.deps import Deps, connect
from server.settings import Settings
from server.wiring import Server, build_server
from storage.config import DatabaseConfig, RedisCacheConfig
from tests.fuzz.floods import MAX_CONCURRENT_STREAMS, Connection
from tests.service.grpcurl import GRPCURL
from tests.waiting import until

REFLECTIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
SERVICES = (
    "google.longrunning.Operations",
    *(f"grpc.{name}" for name in ("channelz.v1.Channelz", "health.v1.Health")),
    *(f"{package}.ServerReflection" for package in REFLECTIONS),
    *(
        f"penchant.v1.{name}Service"
        for name in (
            "Admin",
            "ApiKey",
            "Demand",
            "Embedding",
            "Entity",
            "Interaction",
            "Model",
            "Privacy",
            "Recommendation",
        )
    ),
)


@pytest.fixture
async def settings(database_url: str, redis_url: str) -> Settings:
    settings = Settings(
        port=0,
        max_message_bytes=100_000,
        database=DatabaseConfig(url=SecretStr(database_url), min_connections=1, max_connections=4),
        cache=RedisCacheConfig(url=SecretStr(redis_url)),
    )
    await bootstrap(settings)
    return settings


@pytest.fixture
async def deps(settings: Settings) -> AsyncIterator[Deps]:
    async with connect(settings) as deps:
        yield deps


@pytest.fixture
async def server(settings: Settings, deps: Deps) -> AsyncIterator[Server]:
    server = build_server(settings, deps)
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


async def reflect(
    channel: grpc.aio.Channel, package: str, **request: Any
) -> reflection_pb2.ServerReflectionResponse:
    info: Any = channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = info(iter([reflection_pb2.ServerReflectionRequest(**request)]))
    return await anext(aiter(call))


@pytest.mark.parametrize("package", REFLECTIONS)
async def test_reflection_lists_every_service(channel: Any, package: str) -> None:
    answer = await reflect(channel, package, list_services="*")
    assert tuple(one.name for one in answer.list_services_response.service) == SERVICES


@pytest.mark.parametrize("package", REFLECTIONS)
async def test_reflection_describes_every_service(channel: Any, package: str) -> None:
    for service in SERVICES:
        answer = await reflect(channel, package, file_containing_symbol=service)
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(file)
            for file in answer.file_descriptor_response.file_descriptor_proto
        ]
        assert service in {f"{file.package}.{one.name}" for file in files for one in file.service}
        missing = {name for file in files for name in file.dependency} - {f.name for f in files}
        assert missing == set()


async def test_garbage_is_invalid_for_every_method(channel: Any, fails: Any) -> None:
    for name in SERVICES:
        service = descriptor_pool.Default().FindServiceByName(name)
        for method in service.methods:
            start = channel.stream_stream(f"/{name}/{method.name}")
            failure = await fails(start(iter([b"\xff\xff\xff"])).read())
            assert (method.full_name, failure.code, failure.reason) == (
                method.full_name,
                grpc.StatusCode.INVALID_ARGUMENT,
                "MALFORMED_REQUEST",
            )


async def test_message_that_is_too_large_is_refused(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/penchant.v1.EntityService/GetEntity")(b"\x00" * 100_001)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_connection_has_a_bound_of_streams(server: Server) -> None:
    def ask() -> bytes:
        with Connection(server.port) as connection:
            connection.begin()
            return connection.read_frame()[2]

    settings = await asyncio.to_thread(ask)
    pairs = [struct.unpack_from(">HI", settings, at) for at in range(0, len(settings), 6)]
    assert (MAX_CONCURRENT_STREAMS, 256) in pairs


async def test_health_is_serving_once_started(channel: Any) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", *(name for name in SERVICES if name.startswith("penchant."))):
        await until(partial(_is_serving, stub, service))


async def _is_serving(stub: Any, service: str) -> bool:
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_channelz_tells_of_this_server(channel: Any) -> None:
    stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
    answer = await stub.GetServers(channelz_pb2.GetServersRequest())
    assert len(answer.server) >= 1


@pytest.mark.parametrize("server_id", [-1, 0, 2**40])
async def test_channelz_of_an_unknown_server_is_not_found(channel: Any, server_id: int) -> None:
    stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetServer(channelz_pb2.GetServerRequest(server_id=server_id))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_services_answer(channel: Any) -> None:
    entities: Any = entity_pb2_grpc.EntityServiceStub(channel)
    administration: Any = admin_pb2_grpc.AdminServiceStub(channel)
    listed = await entities.ListEntities(entity_pb2.ListEntitiesRequest())
    tenants = await administration.ListTenants(admin_pb2.ListTenantsRequest())
    assert list(listed.entities) == []
    assert [tenant.tenant_id for tenant in tenants.tenants] == ["default"]


@pytest.mark.skipif(GRPCURL is None, reason="needs grpcurl")
@pytest.mark.parametrize("service", SERVICES)
async def test_grpcurl_describes_without_proto_files(server: Server, service: str) -> None:
    assert GRPCURL is not None
    process = await asyncio.create_subprocess_exec(
        GRPCURL,
        "-plaintext",
        f"127.0.0.1:{server.port}",
        "describe",
        service,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert f"{service} is a service" in said.decode()


async def test_stop_does_not_wait_for_watchers(settings: Settings, deps: Deps) -> None:
    server = build_server(settings, deps)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        await watch.read()
        async with asyncio.timeout(30):
            await server.stop(100)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service=""))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
