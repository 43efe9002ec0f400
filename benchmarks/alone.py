"""A benchmark as a command: a folder to work in, the log aside, failures in a sentence."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks import h2load, service
from benchmarks.console import logs_aside
from benchmarks.contest import Failed


@contextmanager
def alone(name: str, keep: Path | None = None) -> Iterator[tuple[Path, Console]]:
    """Yields the folder, a temporary one unless one is kept, and where people look.

    What cannot be measured ends the process, with the benchmark's name before the reason.
    """
    with tempfile.TemporaryDirectory(prefix=f"penchant-{name}-") as temporary:
        directory = (keep or Path(temporary)).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with logs_aside(directory) as console:
                yield directory, console
        except (Failed, h2load.NoGenerator, service.Refused) as error:
            sys.exit(f"{name}: {error}")
