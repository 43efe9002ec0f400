"""`penchant` as processes: commands that are run, services that are started, watched and ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from storage.embedded.processes import alive, command_line, parent_of

PENCHANT = str(Path(sys.executable).parent / "penchant")
_START_SECS = 120
_STOP_SECS = 60


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment that knows nothing of this process's, but where programs are."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], **variables}


def penchant(
    home: Path, *arguments: str, timeout: float = 100, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [PENCHANT, *arguments],
        env=clean_environment(home, **variables),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], what: str, timeout_secs: float = 60) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + timeout_secs
    while not (found := condition()):
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.02)
    return found


def children_of(pid: int) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and parent_of(int(entry.name)) == pid
    ]


def family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    found = [pid]
    for member in found:
        found += children_of(member)
    return found


class RunningService:
    """`penchant serve` as a process of its own."""

    def __init__(self, home: Path, options: Sequence[str], variables: dict[str, str]) -> None:
        self.port = 0
        self.metrics_port = int(variables["PENCHANT_METRICS_PORT"])
        self.lines: list[str] = []
        self._members: list[int] = []
        self._process = subprocess.Popen(
            [PENCHANT, "serve", *options],
            env=clean_environment(home, **variables),
            cwd=home,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def events(self) -> list[dict[str, Any]]:
        """The log's lines so far; all must be JSON."""
        return [json.loads(line) for line in self.lines]

    def wait_ready(self) -> "RunningService":
        """Until it says that it serves."""

        def said() -> bool:
            assert self._process.poll() is None, f"it ended:\n{self.log}"
            return any("Penchant serves on" in line for line in self.lines)

        eventually(said, "serving", _START_SECS)
        ready = next(e for e in self.events() if e["event"].startswith("Penchant serves on"))
        self.port = ready["port"]
        self._members = self.family()
        return self

    def workers(self) -> list[int]:
        return [p for p in children_of(self.pid) if "server.worker" in command_line(p)]

    def family(self) -> list[int]:
        """The parent, workers, jobs, and the bundled servers with their own children."""
        return family(self.pid)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        code = self._process.wait(_STOP_SECS)
        self._reader.join(_STOP_SECS)
        return code

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process.poll() is None:
            self.send(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Ends it in whatever way, with everything that it started."""
        members = self._members
        if self._process.poll() is None:
            members = list({*members, *self.family()})
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._members = []  # their numbers will be other processes' one day
            ours = [pid for pid in members if alive(pid)]
            for pid in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            eventually(lambda: not any(map(alive, ours)), "no process left over")
            if self._process.stderr is not None:
                self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError):  # closed
            for line in self._process.stderr:
                self.lines.append(line)


class Services:
    """Starts services in one home directory, and ends them all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._started: list[RunningService] = []

    def launch(self, *options: str, port: int = 0, **variables: str) -> RunningService:
        """Starts `penchant serve` and does not wait for it."""
        given = {"PENCHANT_METRICS_PORT": "0", "PENCHANT_ACCESS_LOG_SAMPLE": "1", **variables}
        service = RunningService(self.home, [*options, "--port", str(port)], given)
        self._started.append(service)
        return service

    def start(self, *options: str, port: int = 0, **variables: str) -> RunningService:
        """Starts `penchant serve` and waits until it serves."""
        return self.launch(*options, port=port, **variables).wait_ready()

    def close(self) -> None:
        for service in reversed(self._started):
            service.close()


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes that stand still for the block, as if their machine had stopped."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
