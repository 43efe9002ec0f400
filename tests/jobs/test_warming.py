"""Vector indexes in PostgreSQL's memory after a start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import orjson
import pytest

import jobs.main
from jobs.context import JobContext, job_context
from jobs.main import run
from jobs.registry import AT_START, Job
from jobs.warming import warm_indexes
from storage.config import DatabaseConfig, MigrationConfig
from storage.embedded import EmbeddedServers
from storage.interactions import InteractionRow
from storage.migrations import MigrationRunner
from storage.vector_codecs import halfvec_array
from tests.jobs.conftest import LONG_AGO, Settings

DIMENSION = 16
ENTITIES = 2_000
FILL = """
INSERT INTO entities (placement, tenant_id, entity_type, entity_id, feature_vector)
SELECT 0, 'big', 'item', 'e' || n.place, n.vector
FROM unnest($1::halfvec[]) WITH ORDINALITY AS n (vector, place)
"""
SEARCH = """
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
SELECT entity_no FROM entities_p1
ORDER BY feature_vector::halfvec(16) <=> $1::halfvec(16) LIMIT 20
"""


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[JobContext]:
    """PostgreSQL over a directory, with nothing in its memory yet."""
    servers = await EmbeddedServers.start(directory, postgres=True, redis=False, durable=False)
    try:
        assert servers.database_url is not None
        await MigrationRunner(servers.database_url, MigrationConfig()).run_migrations()
        settings = Settings(DatabaseConfig(url=servers.database_url), directory)
        async with job_context(settings) as context:
            yield context
    finally:
        await servers.stop()


async def pages_read(context: JobContext) -> int:
    """How many pages a search of the index brings into memory."""
    query = np.random.default_rng(1).standard_normal(DIMENSION).astype(np.float16)
    async with context.owner.transaction(None) as connection:
        await connection.execute("SET LOCAL enable_sort = off")
        (plan,) = orjson.loads(await connection.fetchval(SEARCH, query))
    assert plan["Plan"]["Plans"][0]["Index Name"] == "entities_p1_hnsw"
    return int(plan["Plan"]["Shared Read Blocks"])


async def fill(context: JobContext) -> None:
    """A tenant with a placement of its own, and a user."""
    tenant = await context.tenants.create("big", dimension=DIMENSION)
    vectors = np.random.default_rng(5).standard_normal((ENTITIES, DIMENSION)).astype(np.float16)
    async with context.maintenance.connection("big") as connection:
        await connection.execute(FILL, halfvec_array(vectors))
    row = InteractionRow("i", "ada", "item", "e7", "view", 1.0, LONG_AGO)
    await context.interactions.ingest(tenant, [row])
    await context.placements.request_move("big")
    await context.placements.move("big")
    while await context.profiles.refresh_preferences(100):
        pass


async def test_index_is_in_memory_when_it_was_warmed_after_a_restart(tmp_path: Path) -> None:
    async with started(tmp_path) as context:
        await fill(context)
    async with started(tmp_path) as context:
        cold = await pages_read(context)
    async with started(tmp_path) as context:
        (index,) = await context.warming.indexes_in_use()
        assert (index.tenant_id, index.placement, index.dimension) == ("big", 1, DIMENSION)
        # Half of the searches are for users, of whom there is one.
        assert await context.warming.warm(index, 200) == 101
        warm = await pages_read(context)
        # Who comes later finds it there, and looks no further.
        assert await context.warming.warm(index, 200) == 20
    assert cold > 20
    assert warm <= cold / 10


async def test_warming_without_indexes_does_nothing(context: JobContext) -> None:
    await context.tenants.create("small", dimension=DIMENSION)
    assert await context.warming.indexes_in_use() == []
    await warm_indexes(context)


async def test_warming_runs_once_while_other_jobs_repeat(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    enough = asyncio.Event()

    async def warm(_: JobContext) -> None:
        runs.append("warming")

    async def note(_: JobContext) -> None:
        runs.append("note")
        if runs.count("note") > 2:
            enough.set()

    monkeypatch.setattr(jobs.main, "AT_START", Job(AT_START.name, "", warm))
    monkeypatch.setattr(jobs.main, "JOBS", (Job("note", "trending_interval_secs", note),))
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop))
    await asyncio.wait_for(enough.wait(), 20)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert runs.count("warming") == 1
