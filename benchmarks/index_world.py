"""A partition with the generator's entities, an index on it, and searches of both."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks import generator
from benchmarks.console import Advance
from benchmarks.processes import cpu_seconds
from storage.driver_types import OwnConnection

NEAREST = 20
TENANT = "index"
PLACEMENT = 1

_COLUMNS = (
    "placement", "tenant_id", "entity_type", "entity_id", "entity_no", "attributes",
    "feature_vector", "vector_given",
)  # fmt: skip
_EVENTS = 30
_HALF_LIFE_SECS = 30 * 86_400
_POLL_SECS = 0.2
_PRICES = 199  # the generator's, from 1, whatever the vector


@dataclass(frozen=True, slots=True)
class Build:
    """How an index was built.

    Attributes:
        cpu_secs: processor time of all processes.
        workers: how many helped the session.
    """

    seconds: float
    cpu_secs: float
    workers: int
    mib: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some searches: PostgreSQL's processor time, and pages of the index."""

    cpu_ms: float
    pages: int


class Catalogue:
    """What is in the table, for exact searches.

    Args:
        vectors: float16 (n, dimension), by entity_no.
        prices: int64 (n,).
        queries: float16 (q, dimension), profiles first.
        profiles: how many of these are.
    """

    def __init__(
        self,
        vectors: NDArray[np.float16],
        prices: NDArray[np.int64],
        queries: NDArray[np.float16],
        profiles: int,
    ) -> None:
        self.dimension = int(vectors.shape[1])
        self.queries = queries
        self.profiles = profiles
        self._similarity = _cosine(queries, vectors)
        self._prices = prices
        self._nearest: dict[float, list[set[int]]] = {}

    def nearest(self, share: float) -> list[set[int]]:
        """The entities that are truly nearest to each query, of those that pass the filter."""
        if share not in self._nearest:
            (passing,) = np.nonzero(self._prices <= price_of(share))
            places = np.argsort(-self._similarity[:, passing], axis=1)[:, :NEAREST]
            self._nearest[share] = [set(row) for row in passing[places].tolist()]
        return self._nearest[share]


def price_of(share: float) -> int:
    """What so large a share of the entities costs at most."""
    return round(share * _PRICES)


def _cosine(queries: NDArray[np.float16], vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    wanted = queries.astype(np.float32)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    parts = []
    for start in range(0, len(vectors), 10_000):
        rows = vectors[start : start + 10_000].astype(np.float32)
        parts.append(wanted @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T)
    return np.concatenate(parts, axis=1)


def _profiles(vectors: NDArray[np.float16], users: int) -> NDArray[np.float64]:
    """What users like: the mean of what they met, older things less."""
    taste = generator.tastes(users, _EVENTS, min(generator.KNOWN, len(vectors)))
    weights = 0.5 ** (taste.age_secs / _HALF_LIFE_SECS)
    sums = np.zeros((users, vectors.shape[1]))
    np.add.at(sums, taste.users, weights[:, None] * vectors[taste.items].astype(np.float64))
    made: NDArray[np.float64] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return made


async def fill(
    connection: OwnConnection, size: int, dimension: int, queries: int, advance: Advance
) -> Catalogue:
    """The generator's entities in a partition of their own, without an index on the vectors."""
    table = f"entities_p{PLACEMENT}"
    await connection.execute(f"DROP TABLE IF EXISTS {table}")
    await connection.execute(
        f"CREATE TABLE {table} PARTITION OF entities FOR VALUES IN ({PLACEMENT})"
    )
    vectors, prices = [], []
    start = 0
    for block in generator.entities(size, dimension):
        rows = [
            (PLACEMENT, TENANT, generator.ENTITY_TYPE, name, number, text.decode(), vector, True)
            for number, (name, text, vector) in enumerate(
                zip(block.names, block.attributes, block.vectors, strict=True), start
            )
        ]
        await connection.copy_records_to_table(table, records=rows, columns=_COLUMNS)
        vectors.append(block.vectors)
        prices += [orjson.loads(text)["price"] for text in block.attributes]
        start += len(rows)
        advance(start)
    await connection.execute(f"VACUUM ANALYZE {table}")
    known = np.concatenate(vectors)
    half = max(1, queries // 2)
    places = np.linspace(0, size - 1, half).astype(int)
    asked = np.concatenate([_profiles(known, half).astype(np.float16), known[places]])
    return Catalogue(known, np.array(prices), asked, half)


async def build(
    connection: OwnConnection,
    watcher: OwnConnection,
    dimension: int,
    m: int,
    ef_construction: int,
    advance: Advance,
) -> Build:
    """Builds the index with the memory that a move gives it, in place of the former one."""
    table, name = f"entities_p{PLACEMENT}", f"entities_p{PLACEMENT}_hnsw"
    await connection.execute(f"DROP INDEX IF EXISTS {name}")
    await connection.execute("CHECKPOINT")
    await connection.execute(
        "SELECT set_config('maintenance_work_mem', least(greatest(65536,"
        " 2 * pg_table_size($1::text::regclass) / 1024), 2097152) || 'kB', false)",
        table,
    )
    pid = connection.get_server_pid()
    postmaster = _parent(pid)
    began, before = time.perf_counter(), cpu_seconds((pid, postmaster))
    work = asyncio.ensure_future(
        connection.execute(
            f"CREATE INDEX {name} ON {table} USING hnsw"
            f" ((feature_vector::halfvec({dimension})) halfvec_cosine_ops)"
            f" WITH (m = {m}, ef_construction = {ef_construction})"
        )
    )
    workers = 0
    while not work.done():
        row = await watcher.fetchrow(
            "SELECT coalesce(p.blocks_done / nullif(p.blocks_total, 0)::float8, 0) AS share,"
            " (SELECT count(*) FROM pg_stat_activity a WHERE a.leader_pid = p.pid) AS workers"
            " FROM pg_stat_progress_create_index p WHERE p.pid = $1",
            pid,
        )
        if row is not None:
            workers = max(workers, row["workers"])
            advance(row["share"])
        await asyncio.wait([work], timeout=_POLL_SECS)
    await work
    seconds = time.perf_counter() - began
    size = await connection.fetchval("SELECT pg_relation_size($1::text::regclass)", name)
    return Build(seconds, cpu_seconds((pid, postmaster)) - before, workers, size / 2**20)


async def search(
    connection: OwnConnection, catalogue: Catalogue, ef_search: int, share: float, mode: str
) -> tuple[list[set[int]], Cost]:
    """The entities that a search of the index finds for each query, and what all of them cost."""
    settings: Mapping[str, str] = {
        "hnsw.ef_search": str(ef_search),
        "hnsw.iterative_scan": mode,
        # The index, whatever the planner thinks of it.
        "enable_seqscan": "off",
        "enable_sort": "off",
        "plan_cache_mode": "force_generic_plan",
    }
    for name, text in settings.items():
        await connection.execute("SELECT set_config($1, $2, false)", name, text)
    column = f"e.feature_vector::halfvec({catalogue.dimension})"
    matches = (
        "penchant_matches(e.attributes, e.entity_type, e.entity_id, e.created_at, e.updated_at"
    )
    passing = f"AND {matches}, '$.attributes.price <= $most', $2::jsonb)" if share < 1 else ""
    statement = await connection.prepare(
        f"SELECT e.entity_no FROM entities e WHERE e.placement = {PLACEMENT}"
        f" AND e.tenant_id = '{TENANT}' AND e.feature_vector IS NOT NULL AND NOT e.hidden {passing}"
        f" ORDER BY {column} <=> $1::halfvec({catalogue.dimension}) LIMIT {NEAREST}"
    )
    variables: tuple[Any, ...] = ()
    if share < 1:
        variables = (orjson.dumps({"most": price_of(share)}).decode(),)
    pid = connection.get_server_pid()
    found = []
    pages = await _pages(connection)
    before = _ran_ns(pid)
    for query in catalogue.queries:
        rows = await statement.fetch(query, *variables)
        found.append({row["entity_no"] for row in rows})
    cpu_ms = (_ran_ns(pid) - before) / 1e6
    return found, Cost(cpu_ms, await _pages(connection) - pages)


async def _pages(connection: OwnConnection) -> int:
    """Pages of the index that were looked at since statistics began, from wherever they came."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await connection.fetchval(
            "SELECT coalesce(sum(idx_blks_read + idx_blks_hit), 0)::bigint"
            " FROM pg_statio_all_indexes WHERE indexrelname = $1",
            f"entities_p{PLACEMENT}_hnsw",
        )
    )


def _ran_ns(pid: int) -> int:
    """How long the first thread of a process has run, in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
