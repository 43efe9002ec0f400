"""Trainer processes as the jobs process sees them: started, given an order, watched, ended."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

_END_SECS = 5.0
_MAX_THREADS_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_NOT_FOR_TRAINERS = "PROMETHEUS_MULTIPROC_DIR"
"""Its metrics would be counted among the workers'."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a trainer process is to do: one line of JSON on its standard input.

    Attributes:
        settings: the service's settings, as the program of the process reads them.
        worker: under which name the operation is held.
        lease_secs: how long a report keeps it held.
        parent: id of the process whose end is to end the trainer.
    """

    settings: str
    operation_id: str
    worker: str
    lease_secs: float
    parent: int

    def line(self) -> bytes:
        """The order as it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes | str) -> Self:
        """An order as it came."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class TrainerCommand:
    """How trainer processes are run.

    Attributes:
        arguments: program and arguments.
        settings: for `Order.settings`.
        threads: for linear algebra and compiled loops; 0: one a processor.
    """

    arguments: Sequence[str]
    settings: str
    threads: int = 0

    def environment(self) -> dict[str, str]:
        """Of the process: this one's, with threads bounded before any library is loaded."""
        count = str(self.threads or len(os.sched_getaffinity(0)))
        bounded = dict.fromkeys(_MAX_THREADS_VARIABLES, count)
        kept = {k: v for k, v in os.environ.items() if k != _NOT_FOR_TRAINERS}
        return kept | bounded


class TrainerProcess:
    """A process that waits for one order, carries it out and ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: TrainerCommand) -> Self:
        """Starts a process; it loads what it will need while it waits for its order."""
        return cls(
            await asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                env=command.environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to pass on
            )
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def send(self, order: Order) -> None:
        """Gives it its order; one that has died tells so by `wait`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(order.line())
            await self._process.stdin.drain()
        self._process.stdin.close()

    async def wait(self, timeout_secs: float | None = None) -> int | None:
        """Its exit code; None while it runs on after that time."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), timeout_secs)
        return None

    async def end(self) -> None:
        """SIGTERM, and SIGKILL when it has not ended some seconds later."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self.wait(_END_SECS)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"The trainer ended with exit code {code} before its work was done."
    try:
        name = f" ({signal.Signals(-code).name})"
    except ValueError:
        name = ""
    hint = "; was it short of memory?" if code == -signal.SIGKILL else "."
    return f"The trainer was ended by signal {-code}{name}{hint}"
