"""Calls as fast as some callers can, by h2load; by a client in Python where there is none.

h2load sends one body again and again, so calls with several bodies are several of it side by side,
each with its share of the callers. It counts HTTP's statuses and not gRPC's: whoever measures looks
at the server's own counters too (`benchmarks.contest`).
"""

import asyncio
import json
import shutil
import sys
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import LOAD_CORE, pinned

MISSING = "h2load is missing: it comes with the package nghttp2-client (apt install nghttp2-client)"

Metadata = tuple[tuple[str, str], ...]


class NoGenerator(RuntimeError):
    """There is no h2load, or it failed."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is called, and by how many callers.

    Attributes:
        target: host:port.
        method: as /package.Service/Method.
        bodies: serialised requests; each is sent by its share of the callers, again and again.
        callers: calls under way at a time.
        connections: over which one body's callers call.
        core: of the generator; None: any.
        in_turn: callers send the bodies one after the other, each caller the next one. h2load
            cannot do that; the client in Python takes some 0.4 ms of its core a call.
    """

    target: str
    method: str
    bodies: Sequence[bytes]
    callers: int
    metadata: Metadata = ()
    connections: int = 1
    core: int | None = LOAD_CORE
    in_turn: bool = False

    def __post_init__(self) -> None:
        if not self.in_turn and self.callers % (len(self.bodies) * self.connections):
            raise ValueError("the callers cannot be shared evenly")


@dataclass(frozen=True, slots=True)
class Calls:
    """What a run measured.

    Attributes:
        seconds: how long the run was.
        took_ms: float64 (n,), of each call that ended, sorted.
        failed: calls that did not end with HTTP's 200.
    """

    seconds: float
    took_ms: NDArray[np.float64] = field(repr=False)
    failed: int

    @property
    def per_second(self) -> float:
        """Calls a second."""
        return len(self.took_ms) / self.seconds

    def at(self, share: float) -> float:
        """The milliseconds within which a share of the calls ended; NaN where there were none."""
        if not len(self.took_ms):
            return float("nan")
        return float(self.took_ms[min(len(self.took_ms) - 1, int(len(self.took_ms) * share))])


def framed(body: bytes) -> bytes:
    """A message as gRPC puts it into a request: not compressed, its length, itself."""
    return b"\0" + len(body).to_bytes(4, "big") + body


def parse_log(text: str) -> NDArray[np.int64]:
    """h2load's log, shape (n, 3): microseconds since 1970, HTTP status or -1, microseconds taken.

    More columns, which later versions may add, are passed over; so is a last line without an end.
    """
    lines = text[: text.rfind("\n") + 1].splitlines()
    if not lines:
        return np.empty((0, 3), np.int64)
    return np.array([line.split("\t")[:3] for line in lines], np.int64)


def calls_of(logs: Sequence[str], seconds: float) -> Calls:
    """What the logs of runs side by side say together."""
    rows = np.concatenate([parse_log(log) for log in logs])
    good = rows[:, 1] == 200
    return Calls(seconds, np.sort(rows[good, 2]) / 1000, int((~good).sum()))


def command(work: Work, seconds: float, body: Path, log: Path) -> list[str]:
    """The h2load of one body."""
    share = work.callers // len(work.bodies)
    headers = (("content-type", "application/grpc"), ("te", "trailers"), *work.metadata)
    return [
        *([] if work.core is None else pinned(work.core)),
        "h2load",
        f"--clients={work.connections}",
        f"--max-concurrent-streams={share // work.connections}",
        f"--duration={seconds * 1000:.0f}ms",
        f"--data={body}",
        f"--log-file={log}",
        *(f"--header={name}: {value}" for name, value in headers),
        f"http://{work.target}{work.method}",
    ]


async def drive(work: Work, seconds: float) -> Calls:
    """Calls for some seconds.

    Raises:
        NoGenerator: h2load failed.
    """
    if work.in_turn or shutil.which("h2load") is None:
        return await _drive_in_python(work, seconds)
    with tempfile.TemporaryDirectory(prefix="penchant-h2load-") as directory:
        runs = [
            _run(command(work, seconds, body, body.with_suffix(".log")))
            for body in _written(work.bodies, Path(directory))
        ]
        for said in await asyncio.gather(*runs):
            if said is not None:
                raise NoGenerator(f"h2load failed: {said}")
        return calls_of(_logs(Path(directory)), seconds)


def _written(bodies: Sequence[bytes], directory: Path) -> list[Path]:
    """Files with the bodies as they are sent."""
    files = [directory / f"{number}.bin" for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(framed(body))
    return files


def _logs(directory: Path) -> list[str]:
    return [file.read_text() for file in directory.glob("*.log")]


async def _run(words: list[str]) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return said.decode().strip() if process.returncode else None


async def _drive_in_python(work: Work, seconds: float) -> Calls:
    plan = {
        "target": work.target,
        "method": work.method,
        "calls": [[b64encode(body).decode(), work.metadata] for body in work.bodies],
        "callers": work.callers,
        "connections": work.connections * (1 if work.in_turn else len(work.bodies)),
        "seconds": seconds,
    }
    return await drive_plan(plan, work.core)


async def drive_plan(plan: dict[str, object], core: int | None = LOAD_CORE) -> Calls:
    """Lets `benchmarks.load` call, in a process of its own.

    Raises:
        NoGenerator: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *([] if core is None else pinned(core)), sys.executable, "-m", "benchmarks.load",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(json.dumps(plan).encode())
    if process.returncode:
        raise NoGenerator("the client in Python failed")
    said = json.loads(out)
    return Calls(said["seconds"], np.sort(np.array(said["took_ms"], float)), said["failed"])


def of_round(work: Work, bodies: Sequence[bytes], number: int) -> Work:
    """The same work with as many other bodies, those of a round."""
    count = len(work.bodies)
    return replace(work, bodies=[bodies[(number * count + n) % len(bodies)] for n in range(count)])
