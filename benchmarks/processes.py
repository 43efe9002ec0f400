"""What processes use, as Linux tells it: processor time, memory, and the cores they may run on."""

import os
from collections.abc import Iterable
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
"""Where a server of one process runs, and where what calls it does."""

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1024 * 1024


def pinned(core: int) -> list[str]:
    """The words before a command that keep it on a core; none where there is only one."""
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []


def pin(pid: int, core: int | None) -> None:
    """Keeps a process, with all threads that it has now, on a core; None: on any."""
    cores = range(os.cpu_count() or 1) if core is None else [core]
    if (os.cpu_count() or 1) > 1:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


def _stat(pid: int) -> list[str]:
    """The fields of a process's `stat` after its name, or none when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(parent: int, word: str = "") -> list[int]:
    """The processes that a process has started, those whose command has a word in it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has just ended
            if int(fields[1]) == parent and word in command:
                found.append(int(folder.name))
    return sorted(found)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that some processes have used, with that of their children that have ended."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid))) / _TICKS


def memory_mib(pids: Iterable[int]) -> float:
    """Resident memory of some processes in MiB, added up."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB
