"""Real servers for the tests: bundled ones, started once a session, a fresh database a test."""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import pytest_asyncio
import redis
from hypothesis import settings

from storage.config import DatabaseConfig, MigrationConfig
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.embedded import EmbeddedServers
from storage.embedded.processes import alive
from storage.migrations import MigrationRunner

# Its handlers run in every process that a test starts, before it becomes another program, and break
# it now and then. Read when gRPC is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

_TEMPLATE = "penchant_template"
_MEMORY = Path("/dev/shm")
_IN_MEMORY = "penchant-tests-"
_ROOM_BYTES = 4 << 30
_numbers = itertools.count(1)
T = TypeVar("T")

# How long an example takes is the machine's affair.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--short`: slow tests make few rounds, as CI runs them."""
    parser.addoption("--short", action="store_true", help="slow tests in their short form")


def pytest_configure(config: pytest.Config) -> None:
    """Gives the session a directory that no other session touches.

    pytest narrows the rights of the directory that all sessions of a user share whenever one
    starts; under root the bundled PostgreSQL has an account of its own and would lose its data.
    """
    if not hasattr(config, "workerinput") and "PYTEST_DEBUG_TEMPROOT" not in os.environ:
        root = tempfile.mkdtemp(prefix="penchant-tests-")
        os.environ["PYTEST_DEBUG_TEMPROOT"] = root

        def remove() -> None:
            os.environ.pop("PYTEST_DEBUG_TEMPROOT", None)
            shutil.rmtree(root, ignore_errors=True)

        config.add_cleanup(remove)


@pytest.fixture
def short(pytestconfig: pytest.Config) -> bool:
    """Whether slow tests shall make few rounds."""
    return bool(pytestconfig.getoption("--short"))


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine for a fixture that outlives the tests' event loops."""
    with asyncio.Runner() as runner:
        return runner.run(work)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the bundled PostgreSQL's empty database."""
    directory = _in_memory() or tmp_path_factory.mktemp("postgres")
    yield from _serve(directory, postgres=True)


def _in_memory() -> Path | None:
    """A new folder in memory; None where there is not room enough.

    A database is 900 files: where hundreds come and go, ext4 takes longer to find each an inode
    than the tests take.
    """
    for former in _MEMORY.glob(f"{_IN_MEMORY}*"):  # of a run that was killed
        pid = int(former.name.removeprefix(_IN_MEMORY))
        if pid == os.getpid() or not alive(pid):
            shutil.rmtree(former, ignore_errors=True)
    try:
        room = shutil.disk_usage(_MEMORY).free
    except OSError:
        return None
    if room < _ROOM_BYTES:
        return None
    directory = _MEMORY / f"{_IN_MEMORY}{os.getpid()}"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the bundled Redis."""
    yield from _serve(tmp_path_factory.mktemp("redis"), postgres=False)


def _serve(directory: Path, *, postgres: bool) -> Iterator[str]:
    servers = _wait_for(
        EmbeddedServers.start(directory, postgres=postgres, redis=not postgres, durable=False)
    )
    try:
        url = servers.database_url if postgres else servers.redis_url
        assert url is not None
        yield url
    finally:
        _wait_for(servers.stop())
        shutil.rmtree(directory)


def url_of(server: str, database: str) -> str:
    """The server's URL with another database's name."""
    return f"{server.rpartition('/')[0]}/{database}"


@pytest.fixture(scope="session")
def template_database(postgres_server: str) -> str:
    """The name of a migrated database that nobody is connected to."""

    async def make() -> None:
        await _execute(postgres_server, f"CREATE DATABASE {_TEMPLATE}")
        runner = MigrationRunner(url_of(postgres_server, _TEMPLATE), MigrationConfig())
        await runner.run_migrations()

    _wait_for(make())
    return _TEMPLATE


async def _execute(url: str, sql: str, **settings: str) -> None:
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _fresh_database(server: str, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    # Copied within the kernel: page by page through the log it takes ten times as long.
    statement = f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"
    await _execute(server, statement, file_copy_method="clone")
    yield url_of(server, name)
    await _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgres_server: str, template_database: str) -> AsyncIterator[str]:
    """The URL of a migrated database of the test's own."""
    async for url in _fresh_database(postgres_server, template_database):
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_database_url(postgres_server: str, template_database: str) -> AsyncIterator[str]:
    """The URL of a migrated database that a module's tests share."""
    async for url in _fresh_database(postgres_server, template_database):
        yield url


@pytest.fixture
async def empty_database_url(postgres_server: str) -> AsyncIterator[str]:
    """The URL of a database of the test's own in which there is nothing."""
    async for url in _fresh_database(postgres_server, "template0"):
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis that holds nothing."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


ConnectDatabase = Callable[..., Coroutine[Any, Any, Database]]


@pytest.fixture
async def connect_database(database_url: str) -> AsyncIterator[ConnectDatabase]:
    """A function that connects to the test's database: with a role, and keywords of its config."""
    opened: list[Database] = []

    async def connect(*, role: str | None = SERVICE_ROLE, **settings: Any) -> Database:
        kept: dict[str, Any] = {"url": database_url, "min_connections": 1, "max_connections": 8}
        kept["acquire_timeout_secs"] = 30.0
        config = DatabaseConfig(**(kept | settings))
        opened.append(await Database(config, role=role).connect())
        return opened[-1]

    yield connect
    for database in opened:
        await database.close()


@pytest.fixture
async def database(connect_database: ConnectDatabase) -> Database:
    """The test's database as calls see it: row-level security is on."""
    return await connect_database()


@pytest.fixture
async def maintenance_database(connect_database: ConnectDatabase) -> Database:
    """The test's database as jobs see it: all tenants."""
    return await connect_database(role=MAINTENANCE_ROLE)


@pytest.fixture
async def owner_database(connect_database: ConnectDatabase) -> Database:
    """The test's database as its owner sees it, who made the schema."""
    return await connect_database(role=None)
