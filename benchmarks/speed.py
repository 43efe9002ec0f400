"""`make bench`: the service beside bare references, in one run, on one machine, as one table.

docs/performance.md says what each row measures. On two cores a server of one process has the first
and the load generator the second; PostgreSQL and Redis run where the scheduler puts them.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import h2load
from benchmarks.alone import alone
from benchmarks.bench import FORMS, Bench, Result, Row, result_json
from benchmarks.console import Steps
from benchmarks.rows import BY_NAME, ROWS
from benchmarks.world import world
from server.logs import configure_logs

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "bench.json"
DOCUMENT = ROOT / "docs" / "performance.md"

_WIDTH = 150
"""Of the tables where there is no terminal."""


def figure(value: float) -> str:
    """A figure with as many digits as say something."""
    if math.isnan(value):
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


HEADER = ("work", "measure", "ours", "reference", "ratio", "goal", "met")


def cells_of(results: Mapping[str, Result]) -> Iterator[tuple[str, ...]]:
    """The table's cells: every line of every row, its goal, and whether it is met."""
    for name, result in results.items():
        row = BY_NAME[name]
        if not result.lines:
            yield (row.work, result.note, "", "", "", "", "")
        for number, line in enumerate(result.lines):
            yield (
                "" if number else f"{row.work} / {row.reference}",
                line.measure,
                figure(line.ours),
                figure(line.reference),
                figure(line.ratio),
                "" if line.goal is None else str(line.goal),
                {True: "yes", False: "no", None: ""}[line.met],
            )


def table_of(results: Mapping[str, Result]) -> Table:
    """The table as people see it."""
    table = Table(*HEADER, title="speed")
    for cells in cells_of(results):
        if cells[0]:
            table.add_section()
        table.add_row(*cells)
    return table


def markdown_of(results: Mapping[str, Result]) -> str:
    """The table as docs/performance.md has it."""
    rows = [HEADER, ("---", "---", "---:", "---:", "---:", "---:", "---"), *cells_of(results)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def record(document: Path, text: str) -> None:
    """Puts a text between the document's marks `recorded`."""
    begin, end = "<!-- recorded: begin -->\n", "<!-- recorded: end -->"
    before, _, rest = document.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


def sides_of(results: Mapping[str, Result]) -> Table:
    """How long calls took and what they cost, on each side."""
    table = Table(
        "row", "side", "per second", "p50 ms", "p99 ms", "p99.9 ms", "CPU ms", "backends' CPU ms",
        title="both sides",
    )  # fmt: skip
    for name, result in results.items():
        for side, f in result.sides.items():
            shown = (f.per_second, f.p50_ms, f.p99_ms, f.p999_ms, f.cpu_ms, f.backend_cpu_ms)
            table.add_row(name, side, *map(figure, shown))
    return table


def as_json(form: str, results: Mapping[str, Result]) -> dict[str, Any]:
    """All that was measured, and on what."""
    return {
        "form": form,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "generator": "h2load" if shutil.which("h2load") else "python",
        "rows": {name: result_json(BY_NAME[name], result) for name, result in results.items()},
    }


async def run(
    arguments: argparse.Namespace, directory: Path, console: Console
) -> dict[str, Result]:
    """Measures the rows, in the order of the table."""
    rows: list[Row] = [BY_NAME[name] for name in arguments.row] or list(ROWS)
    results: dict[str, Result] = {}
    steps = Steps(console)
    configure_logs("json", "info")
    async with world(directory, steps) as made:
        form = FORMS[arguments.form]
        if arguments.dimension is not None:
            form = replace(form, dimension=arguments.dimension)
        bench = Bench(made, form, arguments.gowalla, arguments.ml100k)
        for row in rows:
            with steps.step(f"row {row.name}", 1):
                results[row.name] = await row.measure(bench)
    return results


def options() -> argparse.ArgumentParser:
    """The words of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "--row", action="append", default=[], choices=list(BY_NAME), help="only this; repeatable"
    )
    forms = parser.add_mutually_exclusive_group()
    for name, told in (
        ("short", "everything small, to see that it runs"),
        ("long", "up to a million entities and 2,000 tenants too"),
    ):
        forms.add_argument(
            f"--{name}",
            dest="form",
            action="store_const",
            const=name,
            default="ordinary",
            help=told,
        )
    parser.add_argument("--gowalla", type=Path, help="folder with train.txt.gz and valid.txt.gz")
    parser.add_argument("--ml100k", type=Path, help="folder with u.data")
    parser.add_argument("--dimension", type=int, help="of the vectors, in the place of the form's")
    parser.add_argument("--keep", type=Path, help="folder to fill once and take again")
    parser.add_argument(
        "--record", action="store_true", help="put the table into docs/performance.md"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="where the JSON goes")
    return parser


def main() -> None:
    """Runs and reports; fails when a call failed, not when a goal is missed."""
    arguments = options().parse_args()
    if shutil.which("h2load") is None:
        if arguments.form != "short":
            sys.exit(h2load.MISSING)
        print(f"{h2load.MISSING}; a client in Python calls instead", file=sys.stderr)
    with alone("speed", arguments.keep) as (directory, console):
        results = asyncio.run(run(arguments, directory, console))
    print_results(arguments, results)


def print_results(arguments: argparse.Namespace, results: Mapping[str, Result]) -> None:
    """The tables, and the JSON."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table_of(results))
    console.print(sides_of(results))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(as_json(arguments.form, results), indent=2) + "\n")
    if arguments.record:
        record(DOCUMENT, markdown_of(results))
    console.print(f"written: {arguments.out}", soft_wrap=True)


if __name__ == "__main__":
    main()
