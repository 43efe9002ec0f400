"""What commands print: answers to stdout, complaints to stderr, bars in a terminal only."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

_WIDTH_OF_FILES = 160

out = Console(
    soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES
)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def complain(message: str) -> None:
    """One line to stderr."""
    err.print(f"[red]penchant:[/red] {escape(message)}", markup=True)


def progress(batches: Iterable[list[T]], total: int, what: str) -> Iterator[list[T]]:
    """Passes batches on, with a bar in a terminal and a plain line at the end elsewhere."""
    if not out.is_terminal:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch)
        out.print(f"{what}: {done}")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as bar:
        task = bar.add_task(what, total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch))
