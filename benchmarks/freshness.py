"""What callers see of each other's likes: `python -m benchmarks.freshness`.

Four workers; 32 writers and 32 readers in processes of their own (`benchmarks.freshness_calls`).
First they call without pause, which shows the capacity; then by the clock, at some share of it, for
the time given or longer: until there are enough reads with a token. Redis is killed twice meanwhile
and comes back empty. The recorded history is checked (`benchmarks.history`). Exits 1 when a promise
was broken. Results are build/freshness.json, the history build/freshness-history.jsonl.gz.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import filling, generator, service
from benchmarks.alone import alone
from benchmarks.bench import TENANT
from benchmarks.console import Steps
from benchmarks.contest import Failed
from benchmarks.history import (
    OK,
    Operation,
    Staleness,
    Violation,
    check,
    read_history,
    staleness,
    write_history,
)
from benchmarks.paced import READY
from benchmarks.world import Serving, World, world
from server.logs import configure_logs
from storage.embedded.processes import alive, read_pid

BUILD = Path(__file__).parent.parent / "build"
LONGEST_SECS = 0.1
ENOUGH_READS = 50_000

_WORKERS = 4
_PROCESSES = 2
_CALLERS = 32  # writers, and as many readers
_CONNECTIONS = 16  # a process: each of them reaches all workers
_ENTITIES = 40
_LIKES = 0.03  # of all calls
_TOKENS = 0.75  # of the reads
_RESTARTS = 2
_REDIS_SECS = 20.0
_LEAD_SECS = 1.0
_LONGEST_RUN_SECS = 1800.0
_JOBS = {"trending_interval_secs": 30.0, "profile_interval_secs": 5.0}
_COUNTER = re.compile(r'^(penchant_(?:wire_cache_lookups|result_cache)_total)\{outcome="(\w+)"\} ')


@dataclass(frozen=True, slots=True)
class Load:
    """What the processes of a run do: calls a second of all together, and for how long."""

    seconds: float
    likes: float
    reads: float
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run of all processes brought: its operations by begin, and milliseconds by kind."""

    history: list[Operation]
    took_ms: dict[str, list[float]]


class CallerProcesses:
    """Processes with callers, which begin together."""

    def __init__(self, made: World, serving: Serving, directory: Path) -> None:
        self._metadata = made.caller(TENANT)
        self._target = serving.target
        self._directory = directory
        self._runs = 0

    @contextlib.asynccontextmanager
    async def running(self, load: Load) -> AsyncIterator["asyncio.Task[Recorded]"]:
        """Begins to call; the task ends with what was recorded."""
        self._runs += 1
        processes = [await self._start(number, load) for number in range(_PROCESSES)]
        try:
            for process, _ in processes:
                assert process.stdout is not None
                if (await process.stdout.readline()).decode().strip() != READY:
                    raise Failed("a caller did not start")
            begin = f"{time.monotonic() + _LEAD_SECS}\n".encode()
            for process, _ in processes:
                assert process.stdin is not None
                process.stdin.write(begin)
                await process.stdin.drain()
            task = asyncio.create_task(self._gathered(processes))
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        finally:
            for process, _ in processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _start(self, number: int, load: Load) -> tuple[asyncio.subprocess.Process, Path]:
        name = f"{'abcdefgh'[number]}{self._runs}"
        output = self._directory / f"{name}.jsonl"
        plan = {
            "target": self._target,
            "metadata": self._metadata,
            "name": name,
            "seed": 10 * number + self._runs,
            "callers": _CALLERS // _PROCESSES,
            "connections": _CONNECTIONS,
            "catalogue": generator.known_names(_ENTITIES),
            "entity_type": generator.ENTITY_TYPE,
            "interaction_type": service.INTERACTION_TYPE,
            "tokens": _TOKENS,
            "output": str(output),
            **asdict(load),
            "likes": load.likes / _PROCESSES,
            "reads": load.reads / _PROCESSES,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.freshness_calls"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 30,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(plan).encode() + b"\n")
        return process, output

    async def _gathered(
        self, processes: Sequence[tuple[asyncio.subprocess.Process, Path]]
    ) -> Recorded:
        history: list[Operation] = []
        took: dict[str, list[float]] = {}
        for process, output in processes:
            said, _ = await process.communicate()
            if process.returncode:
                raise Failed("callers failed")
            for kind, times in json.loads(said).items():
                took.setdefault(kind, []).extend(times)
            history += read_history(output)
        return Recorded(sorted(history, key=lambda operation: operation.begin), took)


async def restart_redis(directory: Path) -> None:
    """Kills Redis, and waits until whoever keeps it running has done so.

    Raises:
        Failed: it is not there, or does not come back.
    """
    before = read_pid(directory / "redis.pid")
    if before is None or not alive(before):
        raise Failed("there is no Redis")
    os.kill(before, signal.SIGKILL)
    end = time.monotonic() + _REDIS_SECS
    while (now := read_pid(directory / "redis.pid")) in {None, before} or not alive(now or 0):
        if time.monotonic() > end:
            raise Failed("Redis does not come back")
        await asyncio.sleep(0.05)


def connections_of(pids: Sequence[int], port: int) -> list[int]:
    """Connections to a port that each process holds the server's end of."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [line.split() for t in tables if t.exists() for line in t.read_text().splitlines()[1:]]
    ours = {f"socket:[{r[9]}]" for r in rows if r[1].endswith(f":{port:04X}") and r[3] == "01"}
    counts = []
    for pid in pids:
        held = set()
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(str(file.readlink()))
        counts.append(len(held & ours))
    return counts


async def lookups(serving: Serving) -> Counter[str]:
    """How often the caches were asked since the start, by cache and outcome."""

    def read() -> Counter[str]:
        url = f"http://127.0.0.1:{serving.settings.metrics_port}/metrics"
        with urllib.request.urlopen(url) as answer:
            lines = answer.read().decode().splitlines()
        counts: Counter[str] = Counter()
        for line in lines:
            if (found := _COUNTER.match(line)) is not None:
                cache = "memory" if "wire" in found[1] else "redis"
                counts[f"{cache} {found[2]}"] += int(float(line.rpartition(" ")[2]))
        return counts

    return await asyncio.to_thread(read)


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured; `capacity` and `per_second` are calls a second, planned ones."""

    capacity: float
    per_second: float
    seconds: float
    recorded: Recorded
    lookups: Counter[str]
    restarts: int
    connections: list[int]


async def run(arguments: argparse.Namespace, directory: Path, steps: Steps) -> Run:
    """Fills, finds the capacity, and calls by the clock.

    Raises:
        Failed: the run is no good: callers did not start, a worker was not reached.
    """
    async with world(directory, steps) as made:
        serving = await made.serve("all", _WORKERS, **_JOBS, several_hosts=arguments.several_hosts)
        await filling.catalogue(made, TENANT, _ENTITIES, dimension=64, users=50, each=10)
        processes = CallerProcesses(made, serving, directory)
        capacity = await _capacity(processes, arguments.capacity_secs, steps)
        per_second = arguments.share * capacity
        likes, reads = _LIKES * per_second, (1 - _LIKES) * per_second
        seconds = arguments.seconds
        if arguments.reads:
            seconds = max(seconds, 1.1 * arguments.reads / (_TOKENS * reads))
        load = Load(min(seconds, _LONGEST_RUN_SECS), likes, reads)
        before = await lookups(serving)
        steps.say(f"capacity {capacity:.0f} calls a second; {per_second:.0f} by the clock")
        with steps.step("by the clock", load.seconds) as advance:
            async with processes.running(load) as calls:
                restarts = 0
                for part in range(1, _RESTARTS + 1):
                    await asyncio.sleep(load.seconds / (_RESTARTS + 1))
                    connections = connections_of(serving.workers, serving.settings.port)
                    await restart_redis(directory)
                    restarts += 1
                    advance(part * load.seconds / (_RESTARTS + 1), "Redis was killed")
                recorded = await calls
        if not all(connections):
            raise Failed(f"connections of the workers: {connections}; run again")
        after = await lookups(serving)
        return Run(
            capacity, per_second, load.seconds, recorded, after - before, restarts, connections
        )


async def _capacity(processes: CallerProcesses, seconds: float, steps: Steps) -> float:
    with steps.step("capacity", seconds):
        async with processes.running(Load(seconds, _LIKES, 1 - _LIKES, closed=True)) as calls:
            recorded = await calls
    history = recorded.history
    begin, end = history[0].begin, history[-1].begin
    warm = begin + (end - begin) / 3
    good = [operation for operation in history if operation.status == OK and operation.end > warm]
    if not good:
        raise Failed(f"no call succeeded: {Counter(o.status for o in history)}")
    return len(good) / (max(operation.end for operation in good) - warm)


def quantiles(took_ms: Sequence[float]) -> dict[str, float]:
    """Milliseconds within which a share of calls ended."""
    at = np.quantile(list(took_ms) or [float("nan")], [0.5, 0.99, 0.999, 1.0]).tolist()
    return dict(zip(("p50", "p99", "p999", "longest"), at, strict=True))


def summary(
    made: Run, stale: Staleness, violations: Sequence[Violation], enough: int
) -> dict[str, Any]:
    """What the table shows, and the promises with whether they were kept."""
    history = made.recorded.history
    good = [operation for operation in history if operation.status == OK]
    reads = [operation for operation in good if operation.kind != "like"]
    with_token = sum(bool(read.token) for read in reads)
    broken = Counter(violation.rule for violation in violations)
    against_token = {v.operations[:1] for v in violations if v.rule in {"stale", "lost"}}
    return {
        "capacity_per_second": made.capacity,
        "per_second": made.per_second,
        "seconds": made.seconds,
        "reads_with_token": with_token,
        "reads_without_token": len(reads) - with_token,
        "likes_acknowledged": sum(operation.kind == "like" for operation in good),
        "users": len({operation.user for operation in history}),
        "failed": dict(Counter(o.status for o in history if o.status != OK)),
        "lookups": dict(made.lookups),
        "redis_restarts": made.restarts,
        "connections_by_worker": made.connections,
        "stale_with_token": len(against_token),
        "staleness": asdict(stale),
        "read_ms": quantiles(made.recorded.took_ms["read"]),
        "like_ms": quantiles(made.recorded.took_ms["like"]),
        "violations": dict(broken),
        "examples": [asdict(violation) for violation in violations[:20]],
        "kept": {
            f"at least {enough:,} reads with a token": with_token >= enough,
            "none of them stale": not against_token,
            f"without a token fresh within {LONGEST_SECS * 1000:.0f} ms (p99.9)": stale.p999_ms
            <= LONGEST_SECS * 1000,
            f"Redis restarted {_RESTARTS} times": made.restarts == _RESTARTS,
            "the checker accepts the history": not violations,
        },
    }


def table_of(told: dict[str, Any]) -> Table:
    """The summary, for people."""
    table = Table("measure", "value")

    def times(of: dict[str, float]) -> str:
        return ", ".join(f"{k} {v:.1f}" for k, v in of.items())

    stale = told["staleness"]
    table.add_row("capacity, calls/s", f"{told['capacity_per_second']:.0f}")
    table.add_row("by the clock", f"{told['per_second']:.0f} calls/s, {told['seconds']:.0f} s")
    table.add_row("reads with a token", f"{told['reads_with_token']:,}")
    table.add_row("of them stale", f"{told['stale_with_token']:,}")
    table.add_row("reads without a token", f"{told['reads_without_token']:,}")
    table.add_row("of them stale", f"{stale['stale']:,}")
    ages = {k.removesuffix("_ms"): v for k, v in stale.items() if k.endswith("_ms")}
    table.add_row("staleness, ms", f"{times(ages)} of {stale['likes']:,} likes")
    table.add_row("likes acknowledged", f"{told['likes_acknowledged']:,}")
    table.add_row("users", f"{told['users']:,}")
    table.add_row("failed calls", ", ".join(f"{k} {v}" for k, v in told["failed"].items()) or "0")
    for cache in ("memory", "redis"):
        outcomes = {k.split()[1]: v for k, v in told["lookups"].items() if k.startswith(cache)}
        said = ", ".join(f"{name} {count:,}" for name, count in sorted(outcomes.items()))
        table.add_row(f"look-ups in {cache}", said)
    table.add_row("reads, ms", times(told["read_ms"]))
    table.add_row("likes, ms", times(told["like_ms"]))
    table.add_row("Redis restarts", str(told["redis_restarts"]))
    table.add_row("connections by worker", ", ".join(map(str, told["connections_by_worker"])))
    table.add_row("back, across callers", f"{stale['back_across_callers']:,} reads (no promise)")
    broken = ", ".join(f"{count} {rule}" for rule, count in told["violations"].items())
    table.add_row("checker", broken or "no violation")
    for promise, kept in told["kept"].items():
        table.add_row(promise, "kept" if kept else "BROKEN")
    return table


def options() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="by the clock, at least")
    parser.add_argument("--share", type=float, default=0.3, help="of the capacity")
    parser.add_argument("--short", action="store_true", help="a look: 10 s, however few reads")
    parser.add_argument(
        "--several-hosts", action="store_true", help="as if other hosts shared the database"
    )
    return parser


def main() -> None:
    """Runs, reports, and fails when a promise was broken."""
    arguments = options().parse_args()
    arguments.reads, arguments.capacity_secs = ENOUGH_READS, 10.0
    if arguments.short:
        arguments.seconds, arguments.reads, arguments.capacity_secs = 10.0, 0, 3.0
    configure_logs("json", "info")
    with alone("freshness") as (directory, console):
        made = asyncio.run(run(arguments, directory, Steps(console)))
    history = made.recorded.history
    BUILD.mkdir(exist_ok=True)
    write_history(BUILD / "freshness-history.jsonl.gz", history)
    violations = check(history, longest_secs=LONGEST_SECS)
    told = summary(made, staleness(history), violations, arguments.reads)
    Console().print(table_of(told))
    (BUILD / "freshness.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    if not all(told["kept"].values()):
        sys.exit("freshness: a promise was broken; see build/freshness.json")


if __name__ == "__main__":
    main()
