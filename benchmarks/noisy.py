"""Whether a tenant that sends ten times what it may disturbs others: `python -m benchmarks.noisy`.

Tenants `b` and `c` call at a steady rate. Tenant `a`, which is allowed 100 calls a second, in turn
is silent, sends what it may, and floods with 1,000; the turns are short and repeated, so that what
else the machine does meets all three alike. All call Recommend: `b` and `c` for few users and one
time in ten for what no cache knows, `a` for one user. The flood comes from h2load where there is
one, which takes less of the processor than a client in Python.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from penchant.v1 import admin_pb2, recommendation_pb2
from penchant.v1.admin_pb2_grpc import AdminServiceStub
from penchant.v1.common_pb2 import EntityRef
from penchant.v1.interaction_pb2 import IngestInteractionsRequest
from penchant.v1.interaction_pb2_grpc import InteractionServiceStub
from rich.table import Table

from benchmarks import service
from benchmarks.console import Steps, tell
from benchmarks.paced import READY
from server.settings import Settings

GOAL = 1.3
TURNS = ("silent", "within", "flood")

_QUIET = ("b", "c")
_ALLOWED = 100.0
_FLOOD = 1000.0
_METHOD = "/penchant.v1.RecommendationService/Recommend"
_USERS = 200
_ITEMS = 500
_EVENTS = 20
_HOT_USERS = 8
_CONNECTIONS = 8
_LOUD_NICE = 10
_LEAD_SECS = 6.0
_EDGE_SECS = 0.5
"""The first of a turn belongs to the one before: buckets are full, queues drain."""
_CALLS = re.compile(
    r'^penchant_calls_total\{code="(\w+)",method="Recommend",[^}]*\} (\S+)$', re.MULTILINE
)
_TICKS = os.sysconf("SC_CLK_TCK")


async def fill(channel: grpc.aio.Channel, tenant: str, seed: int) -> None:
    """A tenant with users who have seen some of its entities."""
    draw = np.random.default_rng(seed)
    await AdminServiceStub(channel).CreateTenant(
        admin_pb2.CreateTenantRequest(tenant=admin_pb2.Tenant(tenant_id=tenant, dimension=16))
    )
    request = IngestInteractionsRequest()
    for user, item in itertools.product(range(_USERS), range(_EVENTS)):
        added = request.interactions.add(
            interaction_id=f"{user}-{item}", user_id=f"u{user}", interaction_type="like"
        )
        added.entity.entity_type = service.ENTITY_TYPE
        added.entity.entity_id = f"i{int(draw.integers(_ITEMS))}"

    async def batches() -> Any:
        yield request

    call = InteractionServiceStub(channel).IngestInteractions(
        batches(), metadata=(("x-tenant-id", tenant),), timeout=60
    )
    async for answer in call:
        if answer.errors:
            raise service.Refused(answer.errors[0].message)


def bodies(count: int) -> list[bytes]:
    """Requests for few users, and every tenth one that no cache knows."""
    made = []
    for number in range(1, count + 1):
        hot = number % 10 != 0
        user = number % (_HOT_USERS if hot else _USERS)
        request = recommendation_pb2.RecommendRequest(user_id=f"u{user}", page_size=20)
        request.attribute_mask.SetInParent()
        if not hot:
            missing = EntityRef(entity_type=service.ENTITY_TYPE, entity_id=f"no-{number}")
            request.exclude.append(missing)
        made.append(request.SerializeToString())
    return made


class Caller:
    """A process that calls for one tenant by a plan."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self._process = process
        self._output = output

    @classmethod
    async def start(cls, plan: dict[str, Any], output: Path) -> "Caller":
        """Starts it; it begins to connect at once, and writes its results to a file."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.paced",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**plan, "output": str(output)}).encode())
        process.stdin.close()
        return cls(process, output)

    async def ready(self) -> None:
        """Until it is connected.

        Raises:
            Refused: it ended before.
        """
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().strip()
        if line != READY:
            raise service.Refused(f"a caller did not start: {line}")

    async def results(self) -> list[tuple[float, float, str]]:
        """What it measured, once it has ended."""
        await self._process.wait()
        made = json.loads(self._output.read_text(encoding="utf-8"))
        return [(due, took, status) for due, took, status in made]

    def end(self) -> None:
        """Ends it if it still runs."""
        if self._process.returncode is None:
            self._process.kill()


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls taken and refused, and seconds of the workers' processor time."""

    taken: float = 0.0
    refused: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.taken + other.taken, self.refused + other.refused, self.cpu + other.cpu)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.taken - other.taken, self.refused - other.refused, self.cpu - other.cpu)


async def now_spent(settings: Settings) -> Spent:
    """What was spent since the service started, by its own metrics and the system's."""

    def read() -> Spent:
        address = f"http://{settings.host}:{settings.metrics_port}/metrics"
        with urllib.request.urlopen(address) as answer:
            text = answer.read().decode()
        calls = {"OK": 0.0, "RESOURCE_EXHAUSTED": 0.0}
        for code, value in _CALLS.findall(text):
            calls[code] = calls.get(code, 0.0) + float(value)
        return Spent(calls["OK"], calls["RESOURCE_EXHAUSTED"], workers_cpu())

    return await asyncio.to_thread(read)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def start_flood(
    h2load: str, settings: Settings, rate: float, seconds: float
) -> asyncio.subprocess.Process:
    """Calls for tenant `a` at a rate for some seconds."""
    body = bodies(1)[0]
    framed = settings.data_dir / "flood.bin"
    framed.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
    headers = ("content-type: application/grpc", "te: trailers", "x-tenant-id: a")
    return await asyncio.create_subprocess_exec(
        # As the paced callers of `a`: what calls from elsewhere takes no core of the service's.
        *("nice", "-n", str(_LOUD_NICE)),
        h2load,
        *(
            f"--clients={_CONNECTIONS}",
            f"--rps={rate / _CONNECTIONS}",
            f"--duration={seconds * 1000:.0f}ms",
        ),
        *("--max-concurrent-streams=50", f"--data={framed}"),
        *(f"--header={header}" for header in headers),
        f"http://127.0.0.1:{settings.port}{_METHOD}",
        stdout=asyncio.subprocess.DEVNULL,
    )


def workers_cpu() -> float:
    """Seconds of processor time that the service's workers have used."""
    spent = 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and b"server.worker" in (folder / "cmdline").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    spent += int(fields[11]) + int(fields[12])
        except OSError:
            continue  # it has just ended
    return spent / _TICKS


async def measure(
    settings: Settings, arguments: argparse.Namespace, steps: Steps
) -> dict[str, Any]:
    """All turns: latencies of the quiet tenants and outcomes of the loud one, by turn."""
    began = time.monotonic() + _LEAD_SECS
    length = arguments.seconds + _EDGE_SECS
    turns = [
        # The order changes from round to round.
        (TURNS[(place + round_) % 3], began + (3 * round_ + place) * length)
        for round_ in range(arguments.rounds)
        for place in range(3)
    ]
    end = turns[-1][1] + length
    h2load = shutil.which("h2load")
    flood = 0.0 if h2load else arguments.flood
    rates = {"silent": 0.0, "within": _ALLOWED, "flood": flood}
    loud = [(at, at + length, rates[turn]) for turn, at in turns]
    plans = [("a", loud, _LOUD_NICE)]
    plans += [(tenant, [(began - 3, end, arguments.rate)], 0) for tenant in _QUIET]
    callers = []
    try:
        for seed, (tenant, pieces, nice) in enumerate(plans):
            plan = {
                "target": f"127.0.0.1:{settings.port}",
                "method": _METHOD,
                "bodies": [
                    b64encode(body).decode() for body in bodies(1 if tenant == "a" else 2_000)
                ],
                "tenant": tenant,
                "connections": _CONNECTIONS,
                "pieces": pieces,
                "seed": seed,
                "nice": nice,
            }
            callers.append(await Caller.start(plan, settings.data_dir / f"{tenant}.json"))
        await asyncio.gather(*(caller.ready() for caller in callers))
        if time.monotonic() > began:
            raise service.Refused("the callers took too long to start")
        spent = {kind: Spent() for kind in TURNS}
        with steps.step("turns", len(turns)) as advance:
            for done, (turn, at) in enumerate(turns):
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                if h2load and turn == "flood":
                    flooding = await start_flood(h2load, settings, arguments.flood, length)
                await asyncio.sleep(max(0.0, at + _EDGE_SECS - time.monotonic()))
                before = await now_spent(settings)
                await asyncio.sleep(max(0.0, at + length - time.monotonic()))
                spent[turn] += await now_spent(settings) - before
                if h2load and turn == "flood" and await flooding.wait():
                    raise service.Refused("h2load failed")
                advance(done + 1, turn)
        made = [await caller.results() for caller in callers]
    finally:
        for caller in callers:
            caller.end()
    return figures(turns, length, made[1] + made[2], spent)


def figures(
    turns: list[tuple[str, float]],
    length: float,
    quiet: list[tuple[float, float, str]],
    spent: dict[str, Spent],
) -> dict[str, Any]:
    """What the report says: medians over the turns of a kind, and CPU a refused call."""
    result: dict[str, Any] = {}
    for kind in TURNS:
        spans = [(at + _EDGE_SECS, at + length) for turn, at in turns if turn == kind]
        each = [[c for c in quiet if begin <= c[0] < end] for begin, end in spans]
        seconds = sum(end - begin for begin, end in spans)
        took = [sorted(c[1] for c in calls) for calls in each]
        result[kind] = {
            "calls": sum(map(len, each)),
            "failed": Counter(c[2] for calls in each for c in calls if c[2] != "OK"),
            "p50_ms": statistics.median(t[len(t) // 2] for t in took),
            "p99_ms": statistics.median(t[int(len(t) * 0.99)] for t in took),
            "p99_ms_by_turn": [t[int(len(t) * 0.99)] for t in took],
            "taken_per_second": (spent[kind].taken - sum(map(len, each))) / seconds,
            "refused_per_second": spent[kind].refused / seconds,
            "workers_cpu": spent[kind].cpu / seconds,
        }
    flood, within = result["flood"], result["within"]
    more = max(1.0, flood["refused_per_second"] - within["refused_per_second"])
    result["cpu_ms_per_refusal"] = (flood["workers_cpu"] - within["workers_cpu"]) / more * 1000
    for kind in ("within", "flood"):
        result[kind]["p99_of_silent"] = result[kind]["p99_ms"] / result["silent"]["p99_ms"]
    return result


async def run(arguments: argparse.Namespace, steps: Steps) -> dict[str, Any]:
    """The service, its tenants, and the turns."""
    with tempfile.TemporaryDirectory(prefix="penchant-noisy-") as directory:
        async with (
            service.service(
                Path(directory), arguments.workers, metrics_port=free_port()
            ) as settings,
            grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel,
        ):
            with steps.step("filling", 3):
                for seed, tenant in enumerate(("a", *_QUIET)):
                    await fill(channel, tenant, seed)
                await service.prepare(settings, everything=True)
            await AdminServiceStub(channel).SetQuotas(
                admin_pb2.SetQuotasRequest(
                    tenant_id="a", quotas=admin_pb2.Quotas(requests_per_second=_ALLOWED)
                )
            )
            return await measure(settings, arguments, steps)


def report(result: dict[str, Any]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table(
        "a", "a refused/s", "a taken/s", "b, c calls", "failed", "p50 ms", "p99 ms", "p99 of silent"
    )
    for kind in TURNS:
        row = result[kind]
        table.add_row(
            kind,
            f"{row['refused_per_second']:.0f}",
            f"{row['taken_per_second']:.0f}",
            str(row["calls"]),
            str(row["failed"].total()),
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['p99_of_silent']:.2f}" if "p99_of_silent" in row else "",
        )
    tell("noisy", table, result)
    print(f"CPU of the workers a refused call: {result['cpu_ms_per_refusal']:.3f} ms")
    met = result["flood"]["p99_of_silent"] <= GOAL
    print(f"p99 of the others moved by at most {GOAL}: {'yes' if met else 'no'}")


def main() -> None:
    """Runs and reports; fails when a call of the quiet tenants failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="of b and of c, calls a second")
    parser.add_argument("--flood", type=float, default=_FLOOD, help="of a, calls a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=8, help="of three turns")
    parser.add_argument("--smoke", action="store_true", help="short, to see that it runs")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seconds, arguments.rounds = 2.0, 1
    try:
        result = asyncio.run(run(arguments, Steps()))
    except service.Refused as error:
        sys.exit(f"noisy: {error}")
    report(result)
    if any(result[kind]["failed"] for kind in TURNS):
        sys.exit("some calls of the quiet tenants failed")


if __name__ == "__main__":
    main()
