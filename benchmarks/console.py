"""What a measurement says: how far it is, on stderr, and in the end its results.

How far it is are bars in a terminal, plain lines elsewhere.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_LINE_SECS = 10.0


class Advance(Protocol):
    """Told what has been done."""

    def __call__(self, done: float, note: str = "") -> None:
        """How much of the total is done now, and what is being done."""


class Steps:
    """Steps of a run, one after the other."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """A line."""
        self._console.print(line, markup=False)

    @contextmanager
    def step(self, name: str, total: float) -> Iterator[Advance]:
        """A step with a known total; tells in the end how long it took."""
        began = time.monotonic()
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            with Progress(*columns, console=self._console, transient=True) as bar:
                task = bar.add_task(name, total=total, note="")
                yield lambda done, note="": bar.update(task, completed=done, note=note)
        else:
            yield self._lines(name, total, began)
        self.say(f"{name}: {time.monotonic() - began:.1f} s")

    def _lines(self, name: str, total: float, said: float) -> Advance:
        last = ""

        def advance(done: float, note: str = "") -> None:
            nonlocal said, last
            if time.monotonic() - said >= _LINE_SECS or note != last:
                said, last = time.monotonic(), note
                self.say(f"{name}: {done / total:.0%} {note}".rstrip())

        return advance


def tell(name: str, table: Table, results: object) -> None:
    """Prints a table, and writes the results as JSON to benchmarks/results/NAME.json."""
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=2), encoding="utf-8")


@contextmanager
def logs_aside(directory: Path) -> Iterator[Console]:
    """Sends this process's and its children's lines to a file; yields where people look."""
    people = os.dup(2)
    with (directory / "service.log").open("ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        with os.fdopen(os.dup(people), "w") as stream:
            yield Console(file=stream, highlight=False, soft_wrap=True)
    finally:
        os.dup2(people, 2)
        os.close(people)
