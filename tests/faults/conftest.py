"""Servers to be broken: a PostgreSQL and a Redis a module, a database and a service a test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from storage.config import MigrationConfig
from storage.migrations import MigrationRunner
from tests.conftest import url_of
from tests.faults.backends import Backends
from tests.faults.report import pytest_terminal_summary  # noqa: F401 - a hook
from tests.rpc.conftest import Service

_TEMPLATE = "faults_template"


async def execute(url: str, *statements: str) -> None:
    """Runs statements on a connection of their own."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """Servers that no other module uses, with a migrated template."""
    # What was stored must outlive a kill of PostgreSQL.
    servers = Backends(tmp_path_factory.mktemp("backends"), durable=True)

    async def prepare() -> None:
        await servers.start()
        await execute(servers.database_url, f"CREATE DATABASE {_TEMPLATE}")
        template = url_of(servers.database_url, _TEMPLATE)
        await MigrationRunner(template, MigrationConfig()).run_migrations()

    with asyncio.Runner() as loop:
        loop.run(prepare())
        yield servers
        loop.run(servers.stop())


@pytest.fixture
async def broken_url(backends: Backends, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a migrated database on those servers, and Redis empty."""
    await backends.start_again()
    name = f"test_{abs(hash(request.node.nodeid)) % 10**9}"
    await execute(backends.database_url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    with redis.Redis.from_url(backends.redis_url) as client:
        client.flushall()
    yield url_of(backends.database_url, name)
    await backends.start_again()
    await execute(backends.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def socket_of(url: str) -> Path:
    """The Unix socket behind the URL of a bundled server."""
    if url.startswith("unix://"):
        return Path(url.removeprefix("unix://").partition("?")[0])
    host = url.partition("@")[2].partition("/")[0].replace("%2F", "/")
    return Path(host) / ".s.PGSQL.5432"


async def idle(service: Service) -> bool:
    """Whether every connection of the service's pool has been given back."""
    stats = service.deps.database.pool_stats()
    return stats.size == stats.idle
