"""ALS inside the service beside the same fit called bare, in one run, on one machine.

The bare fit is `implicit` on a ready matrix, in a process with the priority of a trainer.
The service is measured from TrainModel to the first Recommend that the new version answers: the
queue, reading the interactions, the fit, checks, the artefact, the promotion and the swap. The two
take turns, so that other load falls on both. Before them a neighbour matrix comes to serve, and
what the memory of both workers together grows by (Linux) is set against its size. The workers are
new and answer the same kind of calls before and after: what taking in the interactions left in a
process, or its first long list, is not the matrix's.
`make bench` runs it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
from penchant.v1 import recommendation_pb2_grpc
from rich.table import Table

from benchmarks.console import tell
from benchmarks.models import gowalla, invented
from benchmarks.service import (
    METADATA,
    Log,
    channels,
    create_model,
    create_tenant,
    ingest,
    prepare,
    recommend_request,
    service,
    train,
    until_served,
)
from engine.models.als import AlsConfig
from engine.models.base import Interactions
from storage.embedded.processes import command_line, parent_of

GOAL = 1.15
MEMORY_GOAL = 1.1
_SPARE_SECS = 8.0
_LONGEST = 1000


def bare_fit(arrays: Path, settings: dict[str, object]) -> None:
    """Prints the seconds of a fit on a ready matrix; run as a process of its own."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    os.nice(10)
    loaded = np.load(arrays)
    n_users, n_items = int(loaded["users"].max()) + 1, int(loaded["items"].max()) + 1
    data = Interactions(
        loaded["users"],
        loaded["items"],
        np.ones(len(loaded["users"]), np.float32),
        np.zeros(len(loaded["users"]), np.int64),
        np.arange(n_items, dtype=np.int64),
        np.arange(n_users, dtype=np.int64),
    )
    matrix = data.matrix()
    begin = time.perf_counter()
    with threadpool_limits(1, "blas"):
        AlternatingLeastSquares(**settings).fit(matrix, show_progress=False)
    print(time.perf_counter() - begin)


async def bare(arrays: Path, settings: dict[str, object]) -> float:
    """The seconds of one bare fit."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.training", "--bare", str(arrays), json.dumps(settings),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit("the bare fit failed")
    return float(out)


def _unseen(done: float, note: str = "") -> None:
    """For nobody who waits."""


def log_of(data: Interactions) -> Log:
    """The interactions as the service takes them in."""
    return Log(
        [str(user) for user in range(data.n_users)],
        [str(item) for item in range(data.n_items)],
        data.users,
        data.items,
        np.full(len(data), 1_700_000_000, np.int64),
    )


def memory_of_workers(data_dir: Path) -> int:
    """Bytes of all workers of this process.

    Pages of a model count once, whoever maps them (proportional set size). Pages of libraries
    count whole for each worker: their shares change whenever a trainer, which has them too, comes
    or goes.
    """
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or "server.worker" not in command_line(int(entry.name)):
            continue
        if parent_of(int(entry.name)) == os.getpid():
            counted = "Pss:"
            for line in (entry / "smaps").read_text().splitlines():
                name, *words = line.split()
                if name == counted:
                    total += 1024 * int(words[0])
                elif not name.endswith(":"):
                    path = words[4] if len(words) > 4 else ""
                    library = path.startswith("/") and not path.startswith(str(data_dir))
                    counted = "Rss:" if library else "Pss:"
    return total


async def asked(opened: Sequence[grpc.aio.Channel], first: int, active: str) -> None:
    """Lists for a hundred users by each channel, and the longest for the one who did most.

    No two calls are the same: an answer out of the cache takes no memory.
    """
    for place, channel in enumerate(opened):
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        begin = first + 100 * place
        requests = [recommend_request(str(user), 20) for user in range(begin, begin + 100)]
        for request in (*requests, recommend_request(active, _LONGEST - place)):
            await stub.Recommend(request, metadata=METADATA, timeout=30)


async def run(data: Interactions, config: AlsConfig, rounds: int) -> dict[str, float]:
    """The least of some rounds of each, in turn; and what serving a matrix takes of memory."""
    settings = config.model_dump(exclude={"half_life_days", "binary"})
    active = str(np.bincount(data.users).argmax())
    took: dict[str, list[float]] = {"bare": [], "service": []}
    with tempfile.TemporaryDirectory(prefix="penchant-bench-") as directory:
        arrays = Path(directory) / "pairs.npz"
        np.savez(arrays, users=data.users, items=data.items)
        async with AsyncExitStack() as stack:
            actual = await stack.enter_async_context(service(Path(directory), 2))
            opened = await stack.enter_async_context(channels(f"127.0.0.1:{actual.port}", 4))
            await create_tenant(opened[0])
            await ingest(opened, log_of(data), _unseen)
            await prepare(actual, everything=False)
        async with AsyncExitStack() as stack:
            # What workers remember of the catalogue grows with their callers, to its own bound.
            actual = await stack.enter_async_context(
                service(Path(directory), 2, known_catalogue_bytes=0)
            )
            opened = await stack.enter_async_context(channels(f"127.0.0.1:{actual.port}", 4))
            await create_model(opened[0], "als", "als", config.model_dump(exclude_none=True))
            stub = recommendation_pb2_grpc.RecommendationServiceStub(opened[0])
            await asked(opened, 0, active)
            before = memory_of_workers(Path(directory))
            await create_model(opened[0], "matrix", "item_knn", {"k": min(500, 2 * config.factors)})
            matrix = await train(opened[0], "matrix", _unseen)
            await until_served(opened, active, matrix)
            await asked(opened, 1000, active)
            grown = (memory_of_workers(Path(directory)) - before) / matrix.artefact_bytes
            for number in range(rounds):
                took["bare"].append(await bare(arrays, settings))
                # As in a service that trains now and then: a trainer waits with its libraries.
                await asyncio.sleep(_SPARE_SECS)
                begin = time.perf_counter()
                version = await train(opened[0], "als", _unseen)
                wanted, size = f"als@{version.version}", 1 + 100 * number
                while True:
                    request = recommend_request(active, size)
                    answer = await stub.Recommend(request, metadata=METADATA, timeout=30)
                    if wanted in answer.model_versions:
                        break
                    size += 1
                    await asyncio.sleep(0.02)
                took["service"].append(time.perf_counter() - begin)
    bare_s, service_s = min(took["bare"]), min(took["service"])
    return {
        "bare_s": bare_s,
        "service_s": service_s,
        "ratio": service_s / bare_s,
        "goal": GOAL,
        "matrix_mb": matrix.artefact_bytes / 1e6,
        "memory_ratio": grown,
        "memory_goal": MEMORY_GOAL,
    }


def report(results: dict[str, float]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table("work", "reference", "in the service", "ratio", "goal", "met")
    table.add_row(
        "ALS: read, fit, publish, swap (s)",
        f"{results['bare_s']:.1f}",
        f"{results['service_s']:.1f}",
        f"{results['ratio']:.3f}",
        f"<= {GOAL}",
        "yes" if results["ratio"] <= GOAL else "no",
    )
    table.add_row(
        "memory of two workers for a matrix (MB)",
        f"{results['matrix_mb']:.0f}",
        f"{results['matrix_mb'] * results['memory_ratio']:.0f}",
        f"{results['memory_ratio']:.3f}",
        f"<= {MEMORY_GOAL}",
        "yes" if results["memory_ratio"] <= MEMORY_GOAL else "no",
    )
    tell("training", table, results)


def main() -> None:
    """Runs and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gowalla", type=Path, help="the directory of train and valid .txt.gz")
    parser.add_argument("--smoke", action="store_true", help="small, to see that it runs")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare", nargs=2, metavar=("FILE", "JSON"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare_fit(Path(arguments.bare[0]), json.loads(arguments.bare[1]))
        return
    data = gowalla(arguments.gowalla) if arguments.gowalla else invented()
    if arguments.smoke:
        report(
            asyncio.run(run(data.take(np.arange(20_000)), AlsConfig(factors=16, iterations=2), 1))
        )
    else:
        report(asyncio.run(run(data, AlsConfig(), arguments.rounds)))


if __name__ == "__main__":
    main()
