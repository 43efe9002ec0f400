"""At three times what a worker can compute it refuses quickly, and goes on with what it takes."""

import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from penchant.v1 import recommendation_pb2, recommendation_pb2_grpc

from tests.faults.keeper import KeptBackends
from tests.faults.load import add_films, caller
from tests.rpc.conftest import refusal_of
from tests.service.processes import RunningService, Services

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("survival"), pytest.mark.timeout(300)]

PAIRS = 3
PHASE_SECS = 4.0
DEADLINE_SECS = 5.0
"""As the published client's."""
OVERLOAD = 3.0
GOODPUT_KEPT = 0.6
HEALTH_SECS = 0.5
GROWTH_BYTES = 64 << 20
CONCURRENCY = (4, 8, 16)
USERS = [f"u{number}" for number in range(100)]
OUTCOMES = {"OK", "TOO_MANY_CALLS", "POOL_EXHAUSTED", "REFUSED_STREAM", "OVERDUE"}
_CHANNELS = 3
_WATCH = """
import os, sys, time, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

def worked():
    with open(f"/proc/{sys.argv[2]}/stat") as file:
        told = file.read().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    while True:
        begun, before = time.perf_counter(), worked()
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        print(time.perf_counter() - begun, worked() - before, flush=True)
        time.sleep(0.1)
"""
_PLAIN = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """One worker with small limits that keeps no answers: every call is a cold one."""
    backends, services = KeptBackends(tmp_path / "backends"), Services(tmp_path)
    await backends.start()
    try:
        running = services.launch(
            DATABASE_URL=backends.database_url,
            DATABASE_MAX_CONNECTIONS="8",
            REDIS_URL=backends.redis_url,
            PENCHANT_RESULT_CACHE_TTL_SECS="0",
            PENCHANT_MAX_CONCURRENT_CALLS="24",
            PENCHANT_JOBS_ENABLED="false",
            PENCHANT_LOG_LEVEL="info",
        )
        await asyncio.to_thread(running.wait_ready)
        await add_films(running.target)
        async with caller(running.target) as client:
            for number, user in enumerate(USERS):
                for film in range(5):
                    await client.ingest(user, "film", f"f{(number + film) % 120:03}", "like")
        yield running
    finally:
        await asyncio.to_thread(services.close)
        await backends.stop()


def outcome_of(error: grpc.aio.AioRpcError) -> str:
    """The service's reason; OVERDUE by the caller's clock, REFUSED_STREAM by the server's core."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "OVERDUE"
    if "RST_STREAM with error code 7" in (error.details() or ""):
        return "REFUSED_STREAM"
    return refusal_of(error).reason


class Callers:
    """Calls over a few connections, without repetitions."""

    def __init__(self, channels: list[grpc.aio.Channel]) -> None:
        self._stubs = [recommendation_pb2_grpc.RecommendationServiceStub(one) for one in channels]
        self.outcomes: Counter[str] = Counter()

    async def call(self) -> bool:
        """Whether an answer came in time."""
        request = recommendation_pb2.RecommendRequest(
            user_id=random.choice(USERS), entity_type="film", page_size=20
        )
        try:
            answer = await random.choice(self._stubs).Recommend(request, timeout=DEADLINE_SECS)
        except grpc.aio.AioRpcError as error:
            self.outcomes[outcome_of(error)] += 1
            return False
        self.outcomes["OK"] += 1
        return len(answer.items) == 20 and not answer.degraded

    async def closed_loop(self, concurrency: int, seconds: float) -> float:
        """Answers a second, each caller waiting for one before it asks for the next."""
        end = time.perf_counter() + seconds

        async def ask() -> int:
            good = 0
            while time.perf_counter() < end:
                if await self.call():
                    good += 1
            return good

        return sum(await asyncio.gather(*(ask() for _ in range(concurrency)))) / seconds

    async def open_loop(self, rate: float, seconds: float) -> float:
        """Good answers a second while calls arrive at a rate, whatever became of the others."""
        begun = time.perf_counter()
        good = 0

        async def ask() -> None:
            nonlocal good
            if await self.call() and time.perf_counter() - begun < seconds:
                good += 1

        calls: list[asyncio.Task[None]] = []
        while (now := time.perf_counter() - begun) < seconds:
            due = int(now * rate) - len(calls)
            calls += [asyncio.create_task(ask()) for _ in range(due)]
            await asyncio.sleep(0.002)
        await asyncio.gather(*calls)
        return good / seconds


@asynccontextmanager
async def watched_health(target: str, worker: int) -> AsyncIterator[list[tuple[float, float]]]:
    """Asks for health ten times a second, and at the end notes how long each answer took (s).

    Beside it stands how long the worker worked meanwhile, which is all that it can do about it:
    what else runs on the machine makes any answer late.

    In a process of its own: this one is late itself while it sends all those calls.
    """
    watch = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WATCH, target, str(worker), stdout=asyncio.subprocess.PIPE
    )
    assert watch.stdout is not None
    await watch.stdout.readline()
    waits: list[tuple[float, float]] = []
    try:
        yield waits
    finally:
        watch.terminate()
        said = (await watch.stdout.read()).decode().splitlines()
        await watch.wait()
    for line in said:
        took, worked = line.split()
        waits.append((float(took), float(worked)))
    assert waits


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def test_overload_leaves_most_of_the_goodput_and_health_alive(
    service: RunningService,
) -> None:
    (worker,) = service.workers()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(service.target, options=_PLAIN)
            )
            for _ in range(_CHANNELS)
        ]
        callers, warm_up = Callers(channels), Callers(channels)
        waits: list[tuple[float, float]] = []
        await warm_up.closed_loop(8, 1.0)
        best, kept = [], []
        before = resident_bytes(worker)
        # Both are measured in turn, since what else runs on the machine changes.
        for _ in range(PAIRS):
            best.append(max([await warm_up.closed_loop(n, PHASE_SECS / 3) for n in CONCURRENCY]))
            async with watched_health(service.target, worker) as noted:
                kept.append(await callers.open_loop(OVERLOAD * best[-1], PHASE_SECS))
            waits += noted
        grown = resident_bytes(worker) - before
        ratio = statistics.median(good / most for good, most in zip(kept, best, strict=True))
        took, worked = map(sorted, zip(*waits, strict=True))
        told = (
            f"best {best}, at {OVERLOAD} times as much {kept}: {ratio:.2f}; "
            f"{dict(callers.outcomes)}; "
            f"health median {statistics.median(took):.3f} s, longest {took[-1]:.3f} s, "
            f"in which the worker worked {worked[-1]:.3f} s at most; "
            f"{grown >> 20} MiB more"
        )
        print(told)  # noqa: T201 - the figures of a run, shown with -s or when it fails
        assert ratio >= GOODPUT_KEPT, told
        assert worked[int(0.99 * (len(worked) - 1))] < HEALTH_SECS, told
        assert grown < GROWTH_BYTES, told
        assert callers.outcomes.keys() <= OUTCOMES, told
        assert callers.outcomes["TOO_MANY_CALLS"] > 0, told
        after = [await warm_up.closed_loop(8, PHASE_SECS / 2) for _ in range(PAIRS)]
        assert max(after) > 0.5 * statistics.median(best), (after, told)
