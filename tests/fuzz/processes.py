"""How the worker under fuzzing is."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.service.processes import RunningService

OWN_CONNECTION = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def assert_alive(service: RunningService, workers: list[int]) -> None:
    """The workers are those that began, and they say that they serve."""
    assert service.workers() == workers
    async with grpc.aio.insecure_channel(service.target, options=OWN_CONNECTION) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        # A look at PostgreSQL that fell into a stall of the loop says NOT_SERVING until the next.
        async with asyncio.timeout(60):
            while True:
                reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                await asyncio.sleep(0.1)


def events(service: RunningService) -> list[dict[str, Any]]:
    """The service's lines in the log; gRPC's own, which are no JSON, are left out."""
    return [json.loads(line) for line in service.lines if line.startswith("{")]


def faults_in(service: RunningService) -> list[dict[str, Any]]:
    """Errors in the log that come with a stack trace, as those that end a call with INTERNAL do."""
    return [
        event for event in events(service) if event["level"] == "error" and "exception" in event
    ]
