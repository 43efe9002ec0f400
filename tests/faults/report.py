"""The table of what faults did to callers, printed when the session ends."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests.faults.ledger import Row

_PROPERTY = "fault"
_TITLES = {"wrong": "wrong answers", "failed": "failed calls", "degraded": "degraded answers"}


def rounds_of(*, short: bool) -> int:
    """How often a fault happens: ROUNDS, else 3 in the short form, else 10."""
    return int(os.environ.get("ROUNDS") or (3 if short else 10))


def note(request: pytest.FixtureRequest, row: Row) -> None:
    """Keeps a test's row for the table, across the processes of pytest-xdist too."""
    request.node.user_properties.append((_PROPERTY, asdict(row)))


def titles() -> list[str]:
    """The heads of the table's columns."""
    return [_TITLES.get(field.name, field.name) for field in fields(Row)]


def table(rows: Iterable[Row]) -> list[str]:
    """The lines of a Markdown table with aligned columns."""
    cells = [titles()]
    cells += [[str(value) for value in asdict(row).values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        f"| {' | '.join(map(str.ljust, line, widths))} |" for line in (cells[0], rule, *cells[1:])
    ]


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Prints the rows of all tests; with ROUNDS they are kept in build/faults.json and .md too."""
    rows = list(_rows(terminalreporter))
    if not rows:
        return
    terminalreporter.write_sep("=", "what faults did to callers")
    for line in table(rows):
        terminalreporter.write_line(line)
    if os.environ.get("ROUNDS"):
        build = Path(config.rootpath) / "build"
        build.mkdir(exist_ok=True)
        (build / "faults.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
        (build / "faults.md").write_text("\n".join(table(rows)) + "\n")


def _rows(reporter: TerminalReporter) -> Iterator[Row]:
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    if name == _PROPERTY:
                        yield Row(**value)
