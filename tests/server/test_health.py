"""Health over a real port, with a PostgreSQL and a Redis that come and go."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.health import ANSWERING, STORING, HealthMonitor
from server.metrics import Metrics

CHECK = "/grpc.health.v1.Health/Check"
SERVICES = (*ANSWERING, *STORING)
UP, DOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


class Component:
    """Answers, hangs or fails as it is told."""

    def __init__(self) -> None:
        self.state = "up"

    async def health_check(self) -> bool:
        if self.state == "hangs":
            await asyncio.sleep(60)
        if self.state == "fails":
            raise OSError
        return self.state == "up"

    ping = health_check
    takes_writes = True


async def seen(edge: Any) -> dict[str, int]:
    states = {}
    for service in SERVICES:
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = await edge.call(CHECK, request)
        states[service] = health_pb2.HealthCheckResponse.FromString(answer).status
    return states


async def serve_health(serve_edge: Any, monitor: HealthMonitor) -> Any:
    def add(server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(monitor.servicer, server)

    await monitor.prepare()
    return await serve_edge(add=add, limit=1)


async def test_health_begins_not_serving(serve_edge: Any) -> None:
    edge = await serve_health(serve_edge, HealthMonitor(Component(), None, Metrics()))
    assert await seen(edge) == dict.fromkeys(SERVICES, DOWN)


@pytest.mark.parametrize("away", ["down", "hangs", "fails"])
async def test_health_follows_postgresql_and_comes_back(serve_edge: Any, away: str) -> None:
    database, metrics = Component(), Metrics()
    monitor = HealthMonitor(database, None, metrics, can_answer=lambda: True)
    edge = await serve_health(serve_edge, monitor)
    await monitor.check()
    assert await seen(edge) == dict.fromkeys(SERVICES, UP)
    database.state = away
    await monitor.check()
    assert await seen(edge) == dict.fromkeys(ANSWERING, UP) | dict.fromkeys(STORING, DOWN)
    assert metrics.registry.get_sample_value("penchant_degraded", {"component": "postgresql"}) == 1
    database.state = "up"
    await monitor.check()
    assert await seen(edge) == dict.fromkeys(SERVICES, UP)


async def test_health_of_nothing_to_answer_from_is_not_serving(serve_edge: Any) -> None:
    database = Component()
    monitor = HealthMonitor(database, None, Metrics())
    edge = await serve_health(serve_edge, monitor)
    database.state = "down"
    await monitor.check()
    assert await seen(edge) == dict.fromkeys(SERVICES, DOWN)


async def test_health_without_redis_is_serving_and_degraded(serve_edge: Any) -> None:
    cache, metrics = Component(), Metrics()
    monitor = HealthMonitor(Component(), cache, metrics)
    edge = await serve_health(serve_edge, monitor)
    cache.state = "down"
    await monitor.check()
    assert await seen(edge) == dict.fromkeys(SERVICES, UP)
    assert metrics.registry.get_sample_value("penchant_degraded", {"component": "redis"}) == 1


async def test_health_tells_watchers_of_a_drain_and_goes_past_the_limit(serve_edge: Any) -> None:
    monitor = HealthMonitor(Component(), None, Metrics(), interval_secs=0.01)
    edge = await serve_health(serve_edge, monitor)
    await monitor.start()
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    assert (await watch.read()).status == UP
    edge.admission.in_flight = edge.admission.limit
    assert (await seen(edge))[""] == UP
    edge.admission.drain()
    await monitor.drain()
    assert (await watch.read()).status == DOWN
    assert await seen(edge) == dict.fromkeys(SERVICES, DOWN)


async def test_health_of_an_unknown_service_is_not_found(serve_edge: Any) -> None:
    edge = await serve_health(serve_edge, HealthMonitor(Component(), None, Metrics()))
    request = health_pb2.HealthCheckRequest(service="nobody").SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.call(CHECK, request)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert (await edge.line())["code"] == "NOT_FOUND"
    assert edge.log.entries[-1]["log_level"] == "debug"
