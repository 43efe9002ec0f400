"""Server processes that live no longer than the process that started them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.death_signals import death_note
from storage.embedded.accounts import Account
from storage.exceptions import Unavailable

_POLL_SECS = 0.02
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Program:
    """How one server is run and stopped.

    Args:
        name: for messages.
        command: program and arguments.
        account: the system account it runs under; None: this process's.
        log: its output is appended here.
        stop_signal: asks it to stop cleanly; sent by the kernel, too, when this process dies.
        environment: added to this process's.
    """

    name: str
    command: Sequence[str]
    account: Account | None
    log: Path
    stop_signal: signal.Signals
    environment: Mapping[str, str]


def spawn(program: Program) -> subprocess.Popen[bytes]:
    """Starts a server as a child in a session of its own, so that Ctrl-C does not reach it.

    Call it on a thread that lives as long as the process (see `storage.death_signals`).
    """
    note = death_note(program.stop_signal)
    account = program.account
    with program.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own binaries
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **program.environment},
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            preexec_fn=note,  # noqa: PLW1509 - after the change of user; one system call
            cwd="/",
        )


async def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    """Stops a child: by its signal, and by force after half a minute."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        if not await until(lambda: process.poll() is not None, timeout_secs=30):
            process.kill()
            await until(lambda: process.poll() is not None, timeout_secs=5)


async def stop_orphan(pid: int, stop_signal: signal.Signals, name: str) -> None:
    """Waits for a server whose parent has died, after asking it once more to stop.

    Raises:
        Unavailable: it is still there after a minute.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, stop_signal)
    if not await until(lambda: not alive(pid), timeout_secs=60):
        raise Unavailable(f"A former {name} (process {pid}) does not stop.")


async def until(condition: Callable[[], bool], *, timeout_secs: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + timeout_secs
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_POLL_SECS)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    return _status(pid)[0] not in {"", "Z"}


def parent_of(pid: int) -> int | None:
    """The process's parent; None when it is gone."""
    return _status(pid)[1]


def command_line(pid: int) -> str:
    """The process's arguments; "" when it is gone."""
    return _status(pid)[2]


def _status(pid: int) -> tuple[str, int | None, str]:
    if not _PROC.is_dir():
        return _status_by_ps(pid)
    try:
        stat = (_PROC / f"{pid}/stat").read_text()
        command = (_PROC / f"{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return "", None, ""
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state, int(parent), command.replace("\0", " ")


def _status_by_ps(pid: int) -> tuple[str, int | None, str]:
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "state=,ppid=,command=", "-p", str(pid)],
        check=False,
        capture_output=True,
        text=True,
    ).stdout.split(None, 2)
    return (listed[0][0], int(listed[1]), listed[2]) if len(listed) == 3 else ("", None, "")


def read_pid(path: Path) -> int | None:
    """The number on a pid file's first line."""
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log, for an error message."""
    with contextlib.suppress(OSError):
        return " / ".join(log.read_text(errors="replace").strip().splitlines()[-lines:])
    return ""
