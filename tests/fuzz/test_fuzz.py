"""Messages of every kind to every method: no crash, no INTERNAL or UNKNOWN, memory flat."""

import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import grpc
import pytest

from jobs.context import job_context
from jobs.registry import run_once
from server.settings import Settings
from tests.fuzz.attack import Attack, Fault
from tests.fuzz.methods import all_methods
from tests.fuzz.processes import OWN_CONNECTION, assert_alive, events, faults_in, resident
from tests.fuzz.world import World
from tests.service.processes import RunningService

pytestmark = pytest.mark.xdist_group("service")

CONCURRENCY = 24
_BATCH = int(os.environ.get("BATCH") or 2000)
_BATCHES_A_WORLD = int(os.environ.get("WORLD") or 5)


@asynccontextmanager
async def attacked(service: RunningService, home: Path, seed: int) -> AsyncIterator[Attack]:
    """A seeded world and callers with two connections."""
    channels = [grpc.aio.insecure_channel(service.target, options=OWN_CONNECTION) for _ in range(2)]
    try:
        world = World(channels[0], home)
        await world.begin()
        yield Attack(channels, world, random.Random(seed))
    finally:
        for fault in faults_in(service):
            sys.stdout.write(f"{fault}\n")  # seen where the test fails
        for channel in channels:
            await channel.close()


def explained(service: RunningService, faults: list[Fault]) -> str:
    """One fault of each kind, with what the log says of it."""
    known = {event.get("request_id"): event for event in events(service)}
    kinds: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        trace = str((known.get(fault.request_id) or {}).get("exception", "not in the log"))
        kinds.setdefault((fault.method, trace), fault)
    return "\n\n".join(f"{fault}\n{trace}" for (_, trace), fault in kinds.items())


async def test_thousand_messages_of_every_kind_find_no_fault(
    served: RunningService, tmp_path: Path
) -> None:
    workers = served.workers()
    async with attacked(served, tmp_path, seed=5) as attack:
        await attack.batch(1000, CONCURRENCY)
        await assert_alive(served, workers)
    findings = attack.findings
    assert not findings.faults, explained(served, findings.faults)
    assert faults_in(served) == []
    assert set(findings.codes) == {method.name for method in all_methods()}
    assert findings.totals()["OK"] > 100


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
async def test_messages_of_every_kind_find_no_fault(
    served: RunningService,
    settings: Settings,
    tmp_path: Path,
    short: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """MESSAGES of them, 200,000 where nothing is said; SEED makes another run."""
    messages = int(os.environ.get("MESSAGES") or (10_000 if short else 200_000))
    seed = int(os.environ.get("SEED") or 5)
    workers = served.workers()
    async with attacked(served, tmp_path, seed) as attack:
        findings = attack.findings
        await attack.world.forecast()
        while findings.messages < messages:
            told = len(findings.faults)
            await attack.batch(_BATCH, CONCURRENCY)
            await assert_alive(served, workers)
            findings.memory.append(resident(workers[0]))
            with capsys.disabled():
                sys.stdout.write(
                    f"{findings.messages} messages, {len(findings.faults)} faults, "
                    f"{findings.memory[-1] >> 20} MiB\n{explained(served, findings.faults[told:])}"
                )
            if len(findings.memory) % _BATCHES_A_WORLD == 0:
                async with job_context(settings) as context:
                    await run_once(context)
                await attack.world.renew()
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(findings.table()) + "\n")
        slowest = sorted(findings.slowest.items(), key=lambda pair: -pair[1])[:10]
        sys.stdout.write(f"slowest calls: {slowest}\n")
    assert not findings.faults, explained(served, findings.faults)
    assert faults_in(served) == []
    assert_flat(findings.memory)


def assert_flat(memory: list[int]) -> None:
    """The last third of a run holds no more memory than the second, but for single large calls."""
    third = len(memory) // 3
    if third >= 3:
        assert median(memory[-third:]) <= 1.1 * median(memory[third : 2 * third])
