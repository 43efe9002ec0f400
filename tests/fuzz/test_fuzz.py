"""Messages of every kind to every method: no crash, no INTERNAL or UNKNOWN, memory flat."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jobs.context import job_context
from jobs.registry import run_once
from tests.fuzz.attack import Attack, Findings
from tests.fuzz.world import World
from tests.rpc.conftest import settings_for
from tests.service.processes import RunningService

pytestmark = pytest.mark.xdist_group("service")

CONCURRENCY = 16
_BATCH = 2000
_BATCHES_A_WORLD = 5
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


@asynccontextmanager
async def attacked(service: RunningService, home: Path, seed: int) -> AsyncIterator[Attack]:
    """A seeded world and callers with two connections."""
    channels = [grpc.aio.insecure_channel(service.target, options=_OPTIONS) for _ in range(2)]
    try:
        world = World(channels[0], home)
        await world.begin()
        yield Attack(channels, world, random.Random(seed))
    finally:
        for channel in channels:
            await channel.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def assert_alive(service: RunningService, workers: list[int]) -> None:
    """The worker is the one that began, and says that it serves."""
    assert service.workers() == workers
    async with grpc.aio.insecure_channel(service.target, options=_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def explained(service: RunningService, findings: Findings) -> str:
    """Faults with what the log says of them."""
    events = {event.get("request_id"): event for event in service.events()}
    return "\n\n".join(
        f"{fault}\n{(events.get(fault.request_id) or {}).get('exception', 'not in the log')}"
        for fault in findings.faults[:20]
    )


async def test_thousand_messages_of_every_kind_find_no_fault(
    served: RunningService, tmp_path: Path
) -> None:
    workers = served.workers()
    async with attacked(served, tmp_path, seed=5) as attack:
        await attack.batch(1000, CONCURRENCY)
        await assert_alive(served, workers)
    findings = attack.findings
    assert not findings.faults, explained(served, findings)
    assert len(findings.codes) >= 70
    assert findings.totals()["OK"] > 100
