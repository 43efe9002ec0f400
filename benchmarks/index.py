"""What a vector index costs and finds, by its settings: `python -m benchmarks.index`.

The generator's entities lie in a partition of the bundled PostgreSQL, as those of a tenant of that
size do. For each pair of m and ef_construction the index is built as a move builds it, and searched
for profiles of users and for entities, as many of each, with several ef_search. What is truly
nearest is computed in NumPy. Processor time is that of the session in PostgreSQL, the least of four
rounds. Results are build/index.json.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
from rich.table import Table

from benchmarks.alone import alone
from benchmarks.console import Steps
from benchmarks.index_world import Build, Catalogue, build, fill, search
from server.logs import configure_logs
from storage.config import MigrationConfig
from storage.driver_types import OwnConnection
from storage.embedded import EmbeddedServers
from storage.migrations import MigrationRunner
from storage.vector_codecs import register_vector_codecs

WANTED_RECALL = 0.99
WIDTHS = (40, 60, 100, 200, 400)
FILTER_WIDTH = 100
"""How widely the index is searched where there is a filter: as a new tenant's is."""
SHARES = (0.1, 0.01)
MODES = ("relaxed_order", "strict_order", "off")
PAIRS = {
    10_000: ((8, 64), (16, 64), (16, 128), (24, 128), (32, 200)),
    100_000: ((8, 64), (16, 64), (16, 128), (16, 200), (24, 128)),
}
"""By size; other sizes are measured with the last."""
_ROUNDS = 4
_NAMES = ("entities", "m", "ef_constr.")
OUTPUT = Path(__file__).parent.parent / "build" / "index.json"


@dataclass(frozen=True, slots=True)
class Searched:
    """Searches of one kind.

    Attributes:
        filter_share: which share of the entities passes the filter; 1: none is set.
        mode: `hnsw.iterative_scan`.
        found: how many rows came, of 20, in the mean.
        recall: the share of the truly nearest 20 among them, of all searches.
        recall_profiles: of those for profiles.
        cpu_ms: PostgreSQL's processor time a search.
        pages: of the index, a search.
    """

    ef_search: int
    filter_share: float
    mode: str
    found: float
    recall: float
    recall_profiles: float
    cpu_ms: float
    pages: float


@dataclass(frozen=True, slots=True)
class Measured:
    """An index and what was searched in it."""

    size: int
    m: int
    ef_construction: int
    build: Build
    searches: list[Searched]

    @property
    def plain(self) -> list[Searched]:
        """Without a filter, the narrowest first."""
        return [each for each in self.searches if each.filter_share == 1]

    @property
    def enough(self) -> Searched | None:
        """The narrowest that finds 0.99."""
        return next((each for each in self.plain if each.recall >= WANTED_RECALL), None)


@asynccontextmanager
async def database(directory: Path) -> AsyncIterator[tuple[OwnConnection, OwnConnection]]:
    """A migrated database: a session that works, and one that looks on."""
    servers = await EmbeddedServers.start(directory, postgres=True, redis=False)
    try:
        assert servers.database_url is not None
        await MigrationRunner(servers.database_url, MigrationConfig()).run_migrations()
        worker = await asyncpg.connect(servers.database_url, timeout=60)
        watcher = await asyncpg.connect(servers.database_url, timeout=60)
        try:
            await register_vector_codecs(worker)
            yield worker, watcher
        finally:
            await worker.close()
            await watcher.close()
    finally:
        await servers.stop()


async def measure(
    worker: OwnConnection,
    catalogue: Catalogue,
    *,
    ef_search: int,
    share: float = 1.0,
    mode: str = MODES[0],
) -> Searched:
    """Searches for all vectors several times, and tells of the cheapest round."""
    nearest = catalogue.nearest(share)
    rounds = [await search(worker, catalogue, ef_search, share, mode) for _ in range(_ROUNDS)]
    seen, cost = min(rounds, key=lambda one: one[1].cpu_ms)
    hits = [len(a & b) / len(b) for a, b in zip(seen, nearest, strict=True)]
    profiles = hits[: catalogue.profiles]
    return Searched(
        ef_search=ef_search,
        filter_share=share,
        mode=mode,
        found=sum(map(len, seen)) / len(seen),
        recall=sum(hits) / len(hits),
        recall_profiles=sum(profiles) / len(profiles),
        cpu_ms=cost.cpu_ms / len(seen),
        pages=cost.pages / len(seen),
    )


async def run(arguments: argparse.Namespace, directory: Path, steps: Steps) -> list[Measured]:
    """All sizes, and for each all pairs."""
    results = []
    async with database(directory) as (worker, watcher):
        for size in arguments.sizes:
            with steps.step(f"{size:,}: filling", size) as advance:
                catalogue = await fill(
                    worker, size, arguments.dimension, arguments.queries, advance
                )
            pairs = arguments.pairs or PAIRS.get(size) or PAIRS[max(PAIRS)]
            for m, ef_construction in pairs:
                with steps.step(f"{size:,}: m {m}, ef_construction {ef_construction}", 1) as told:
                    built = await build(
                        worker, watcher, arguments.dimension, m, ef_construction, told
                    )
                searches = [await measure(worker, catalogue, ef_search=width) for width in WIDTHS]
                for share in SHARES:
                    for mode in MODES:
                        searches.append(
                            await measure(
                                worker, catalogue, ef_search=FILTER_WIDTH, share=share, mode=mode
                            )
                        )
                results.append(Measured(size, m, ef_construction, built, searches))
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text(json.dumps([asdict(r) for r in results], indent=1))
    return results


def _named(each: Measured) -> tuple[str, ...]:
    return f"{each.size:,}", str(each.m), str(each.ef_construction)


def build_table(results: Sequence[Measured]) -> Table:
    """What building costs, and how widely the index must be searched."""
    table = Table(*_NAMES, "build s", "CPU s", "workers", "MiB", "0.99 at ef_search")
    for each in results:
        built, enough = each.build, each.enough
        at = "-" if enough is None else f"{enough.ef_search}, {enough.cpu_ms:.2f} ms"
        figures = (f"{built.seconds:.1f}", f"{built.cpu_secs:.1f}", str(built.workers))
        table.add_row(*_named(each), *figures, f"{built.mib:.0f}", at)
    return table


def plain_table(results: Sequence[Measured]) -> Table:
    """Searches without a filter: recall, processor time and pages."""
    table = Table(*_NAMES, *(f"ef {width}" for width in WIDTHS))
    for each in results:
        cells = (f"{s.recall:.4f}\n{s.cpu_ms:.2f} ms\n{s.pages:.0f} p." for s in each.plain)
        table.add_row(*_named(each), *cells)
    return table


def filtered_table(results: Sequence[Measured]) -> Table:
    """Searches with a filter: rows of 20, recall and processor time."""
    kinds = [(share, mode) for share in SHARES for mode in MODES]
    table = Table(*_NAMES, *(f"{share:.0%}\n{mode}" for share, mode in kinds))
    for each in results:
        by_kind = {(s.filter_share, s.mode): s for s in each.searches}
        found = (by_kind[kind] for kind in kinds)
        cells = (f"{s.found:.1f}\n{s.recall:.3f}\n{s.cpu_ms:.2f} ms" for s in found)
        table.add_row(*_named(each), *cells)
    return table


def _pair(text: str) -> tuple[int, int]:
    m, _, ef_construction = text.partition(",")
    return int(m), int(ef_construction)


def main() -> None:
    """Runs, and prints three tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(PAIRS))
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--pairs", type=_pair, nargs="+", help="as m,ef_construction")
    parser.add_argument("--queries", type=int, default=200, help="half are profiles of users")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    configure_logs("auto", "error")
    with alone("index") as (directory, console):
        results = asyncio.run(run(arguments, directory, Steps(console)))
        for table in (build_table, plain_table, filtered_table):
            console.print(table(results))


if __name__ == "__main__":
    main()
