"""How long a worker takes to serve, and its first answers: `python -m benchmarks.start`.

PostgreSQL runs already, with a catalogue and a model. A worker is started as the service starts it;
it serves when its health check says so. Then one caller asks for a hundred users, whose lists
nobody has computed before, and for others until the worker is warm; nothing comes from a cache.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.table import Table

from benchmarks import filling
from benchmarks.alone import alone
from benchmarks.bench import TENANT
from benchmarks.console import Steps, tell
from benchmarks.contest import Failed
from benchmarks.h2load import Metadata
from benchmarks.rows_recommend import RECOMMEND, request_of
from benchmarks.world import CACHES, World, known, world
from server.logs import configure_logs
from server.metrics import MULTIPROCESS_VARIABLE
from server.processes import reserved_port
from server.transfer import write_settings

GOAL_SECS = 3.0
GOAL_RATIO = 5.0

_FIRST = 100
_WARM = 1_000
_LONGEST_SECS = 60.0
_POLL_SECS = 0.01


@asynccontextmanager
async def worker(made: World, directory: Path) -> AsyncIterator[tuple[grpc.aio.Channel, float]]:
    """A worker alone on a port, once it serves, and the seconds that it took.

    Raises:
        Failed: it does not in a minute.
    """
    settings = made.settings.model_copy(update=known(CACHES["none"]))
    async with reserved_port(settings) as settings:
        environment = {
            **os.environ,
            MULTIPROCESS_VARIABLE: str(directory),
            "OPENBLAS_NUM_THREADS": "1",
        }
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(write_settings(settings).encode())
            process.stdin.close()
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 50)]
            options.append(("grpc.initial_reconnect_backoff_ms", 10))
            options.append(("grpc.min_reconnect_backoff_ms", 10))
            address = f"127.0.0.1:{settings.port}"
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                await _until_serving(channel, began + _LONGEST_SECS)
                yield channel, time.perf_counter() - began
        finally:
            process.terminate()
            await process.wait()


async def _until_serving(channel: grpc.aio.Channel, end: float) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        if time.perf_counter() > end:
            raise Failed("the worker does not serve")
        await asyncio.sleep(_POLL_SECS)


async def asked(channel: grpc.aio.Channel, users: Sequence[str], caller: Metadata) -> list[float]:
    """What each of some calls took in milliseconds, one after the other, sorted."""
    call: Any = channel.unary_unary(RECOMMEND)
    took = []
    for user in users:
        began = time.perf_counter()
        await call(request_of(user), metadata=caller, timeout=30)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)


def p99(took: Sequence[float]) -> float:
    """The 99th of a hundred."""
    return took[int(len(took) * 0.99) - 1]


async def one_start(made: World, users: list[str], turn: int) -> dict[str, float]:
    """Starts a worker once, and asks."""
    offset = turn * (_FIRST + _WARM)
    order = [users[(offset + n) % len(users)] for n in range(_FIRST + _WARM)]
    caller = made.caller(TENANT)
    with tempfile.TemporaryDirectory(prefix="penchant-start-") as metrics:
        async with worker(made, Path(metrics)) as (channel, seconds):
            first = await asked(channel, order[:_FIRST], caller)
            warm = await asked(channel, order[_FIRST:], caller)
    return {
        "serving_secs": seconds,
        "first_p50_ms": first[len(first) // 2],
        "first_p99_ms": p99(first),
        "first_longest_ms": first[-1],
        "warm_p50_ms": warm[len(warm) // 2],
        "warm_p99_ms": p99(warm),
        "ratio": p99(first) / p99(warm),
    }


async def run(
    arguments: argparse.Namespace, directory: Path, steps: Steps
) -> list[dict[str, float]]:
    """Fills, and starts a worker some times."""
    async with world(directory, steps) as made:
        users = await filling.catalogue(
            made, TENANT, arguments.entities, dimension=arguments.dimension, users=2_000
        )
        if made.filled("model of bench") is None:
            serving = await made.serve("all")
            await filling.train(made, serving, TENANT, "item_knn", users[0])
            made.note_filled("model of bench", {})
        await made.stop()
        starts = []
        with steps.step("starting", arguments.starts) as advance:
            for turn in range(arguments.starts):
                starts.append(await one_start(made, users, turn))
                advance(turn + 1)
        return starts


def report(starts: list[dict[str, float]]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table("figure", *(f"start {n}" for n in range(1, len(starts) + 1)), "median", "goal")
    goals = {"serving_secs": f"<= {GOAL_SECS:g}", "ratio": f"<= {GOAL_RATIO:g}"}
    for name in starts[0]:
        values = [start[name] for start in starts]
        shown = (f"{value:.2f}" for value in (*values, statistics.median(values)))
        table.add_row(name, *shown, goals.get(name, ""))
    tell("start", table, starts)


def main() -> None:
    """Runs and reports; fails when a call failed, not when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder to fill once and take again")
    arguments = parser.parse_args()
    configure_logs("json", "info")
    with alone("start", arguments.keep) as (directory, console):
        starts = asyncio.run(run(arguments, directory, Steps(console)))
    report(starts)


if __name__ == "__main__":
    main()
