"""Recommend before and during a training whose version then replaces the serving one.

Callers ask without a pause, half of them for the same few users (hot, answered from the cache),
half with requests that no cache knows (cold). No call may fail. `python -m benchmarks.swap`.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from penchant.v1.common_pb2 import EntityRef
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceStub
from rich.table import Table

from benchmarks import service
from benchmarks.console import Steps, tell
from benchmarks.quality_data import BadFile, Ids, read, times_of

MODEL = "swap"

_CALLERS = 16
_CHANNELS = 8
_HOT_USERS = 8
_CALL_SECS = 30.0
_WARM_UP_SECS = 2.0


@dataclass(slots=True)
class Calls:
    """The calls of one kind: milliseconds each took, and the failures by status."""

    took_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)

    def figures(self) -> dict[str, Any]:
        """What is printed of them."""
        p50, p99 = np.percentile(self.took_ms or [0.0], [50, 99]).tolist()
        return {
            "calls": len(self.took_ms),
            "failed": len(self.failures),
            "p50_ms": p50,
            "p99_ms": p99,
            "failures": sorted(set(self.failures)),
            "versions": sorted(self.versions),
        }


class Callers:
    """Asks until stopped; calls count for the phase in which they begin."""

    def __init__(self, users: Sequence[str]) -> None:
        self._users = users
        self._turn = itertools.count()
        self.stopped = False
        self.phase: dict[str, Calls] = {}
        self.begin_phase()

    def begin_phase(self) -> dict[str, Calls]:
        """Ends a phase; returns the new one, in which calls are counted from now on."""
        self.phase = {"hot": Calls(), "cold": Calls()}
        return self.phase

    async def run(self, channels: Sequence[grpc.aio.Channel]) -> None:
        """All callers, until `stopped`."""
        await service.together(
            # Neighbours share a channel, so that each has a hot and a cold caller.
            self._call(channels[number // 2 % len(channels)], hot=number % 2 == 0)
            for number in range(_CALLERS)
        )

    async def _call(self, channel: grpc.aio.Channel, *, hot: bool) -> None:
        stub = RecommendationServiceStub(channel)
        while not self.stopped:
            turn = next(self._turn)
            users = self._users[:_HOT_USERS] if hot else self._users
            request = service.recommend_request(users[turn % len(users)], 20)
            if not hot:
                # A changing name that does not exist misses the cache and changes no work.
                missing = EntityRef(entity_type=service.ENTITY_TYPE, entity_id=f"no-such-{turn}")
                request.exclude.append(missing)
            calls = self.phase["hot" if hot else "cold"]
            began = time.perf_counter()
            try:
                answer = await stub.Recommend(
                    request, metadata=service.METADATA, timeout=_CALL_SECS
                )
            except grpc.aio.AioRpcError as error:
                calls.failures.append(f"{error.code().name}: {error.details()}")
            else:
                calls.versions.update(answer.model_versions)
            calls.took_ms.append((time.perf_counter() - began) * 1000)


def log_of(path: Path | None) -> service.Log:
    """The interactions of a file, or made-up ones: groups of users with entities of their own.

    Raises:
        BadFile: the file cannot be read.
    """
    users, items = Ids(), Ids()
    if path is not None:
        rows = read(path, None, users, items)
        times = times_of(rows, None, int(time.time()))
        return service.Log(users.names, items.names, rows.users, rows.items, times.train)
    draw = np.random.default_rng(0)
    n_users, n_items, each, groups = 2_000, 4_000, 40, 40
    codes = np.repeat(np.arange(n_users, dtype=np.int32), each)
    liked = draw.integers(0, n_items // groups, len(codes)) * groups + codes % groups
    return service.Log(
        [f"user-{n}" for n in range(n_users)],
        [f"item-{n}" for n in range(n_items)],
        codes,
        liked.astype(np.int32),
        int(time.time()) - draw.integers(1, 86_400, len(codes)),
    )


async def run(arguments: argparse.Namespace, log: service.Log, steps: Steps) -> dict[str, Any]:
    """Measures both phases; each is hot, cold and both together."""
    with tempfile.TemporaryDirectory(prefix="penchant-swap-") as directory:
        async with (
            service.service(Path(directory), arguments.workers) as settings,
            service.channels(f"127.0.0.1:{settings.port}", _CHANNELS + 1) as channels,
        ):
            control, asking = channels[0], channels[1:]
            await service.create_tenant(control)
            with steps.step("ingesting", len(log.users)) as advance:
                await service.ingest(asking, log, advance)
            await service.prepare(settings, everything=False)
            await service.create_model(control, MODEL, arguments.model, {})
            with steps.step("training the first version", 1) as advance:
                first = await service.train(control, MODEL, advance)
            await service.until_served(asking, log.user_names[0], first)
            callers = Callers(log.user_names)
            load = asyncio.create_task(callers.run(asking))
            try:
                await asyncio.sleep(_WARM_UP_SECS)
                before = callers.begin_phase()
                with steps.step("asking before", 1):
                    await asyncio.sleep(arguments.seconds)
                during = callers.begin_phase()
                began = time.monotonic()
                with steps.step("asking during the training", 1) as advance:
                    second = await service.train(control, MODEL, advance)
                trained = time.monotonic() - began
                await service.until_served(asking, log.user_names[0], second)
                # The first calls after the swap belong to it.
                await asyncio.sleep(_WARM_UP_SECS)
            finally:
                callers.stopped = True
                await load
    return {
        "before": {kind: calls.figures() for kind, calls in _joined(before).items()},
        "during": {kind: calls.figures() for kind, calls in _joined(during).items()},
        "training_seconds": trained,
        "algorithm": second.algorithm,
        "interactions": len(log.users),
    }


def _joined(phase: dict[str, Calls]) -> dict[str, Calls]:
    together = Calls()
    for calls in phase.values():
        together.took_ms += calls.took_ms
        together.failures += calls.failures
        together.versions |= calls.versions
    return {**phase, "all": together}


def report(result: dict[str, Any]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table("calls", "phase", "number", "failed", "p50 ms", "p99 ms", "p99 of before")
    for kind, before in result["before"].items():
        for phase in ("before", "during"):
            figures = result[phase][kind]
            table.add_row(
                kind,
                phase,
                str(figures["calls"]),
                str(figures["failed"]),
                f"{figures['p50_ms']:.2f}",
                f"{figures['p99_ms']:.2f}",
                f"{figures['p99_ms'] / before['p99_ms']:.2f}" if before["p99_ms"] else "",
            )
    tell("swap", table, result)


def main() -> None:
    """Runs and reports; fails when any call failed or a version did not come to serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="as of benchmarks.quality; default: made up")
    parser.add_argument("--model", default="item_knn", help="an algorithm")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the phase before")
    parser.add_argument("--smoke", action="store_true", help="short, to see that it runs")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seconds = 2.0
    try:
        result = asyncio.run(run(arguments, log_of(arguments.train), Steps()))
    except (BadFile, service.Refused) as error:
        sys.exit(f"swap: {error}")
    report(result)
    if any(result[phase]["all"]["failed"] for phase in ("before", "during")):
        sys.exit("some calls failed")


if __name__ == "__main__":
    main()
