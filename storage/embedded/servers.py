"""The bundled servers of one data directory, shared by all commands that need them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, Self

import structlog
from filelock import AsyncFileLock, Timeout

from storage.embedded import processes
from storage.embedded.postgres import BundledPostgres
from storage.embedded.redis import BundledRedis
from storage.exceptions import Unavailable

_START_SECS = 120.0
_POLL_SECS = 0.02
_WATCH_SECS = 0.5
_REAPED_SECS = 20.0

_log = structlog.get_logger(__name__)


class _Server(Protocol):
    name: str
    stop_signal: signal.Signals
    log: Path
    pid_file: Path
    marker: str
    sockets: Path

    def program(self) -> processes.Program: ...
    async def prepare(self) -> None: ...
    async def ready(self) -> bool: ...
    async def finish(self) -> None: ...


class EmbeddedServers:
    """Bundled servers, started with `start` and stopped with `stop`.

    They stop cleanly, too, when this process dies in any way. Where another live command already
    runs them, they are shared and left alone by `stop`.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.database_url: str | None = None
        self.redis_url: str | None = None
        self._children: dict[_Server, subprocess.Popen[bytes]] = {}

    @classmethod
    async def start(
        cls, data_dir: Path, *, postgres: bool, redis: bool, durable: bool = True
    ) -> Self:
        """Starts or joins the servers of a data directory. Call it on the main thread.

        Args:
            data_dir: made if missing; keeps the cluster and the logs.
            postgres: whether PostgreSQL is wanted: then `database_url` is set.
            redis: whether Redis is wanted: then `redis_url` is set.
            durable: False trades crash safety for speed, for tests.

        Raises:
            Unavailable: a server does not start; the message ends with its last words.
        """
        directory = _private_directory(data_dir)
        servers = cls(directory)
        try:
            async with AsyncFileLock(directory / "start.lock", timeout=_START_SECS):
                if postgres:
                    cluster = BundledPostgres(directory, durable=durable)
                    await servers._start_or_join(cluster)
                    servers.database_url = cluster.url()
                if redis:
                    cache = BundledRedis(directory)
                    await servers._start_or_join(cache)
                    servers.redis_url = cache.url()
        except Timeout as error:
            raise Unavailable(f"Another command starts the servers in {directory}.") from error
        except BaseException:
            await servers.stop()
            raise
        return servers

    async def stop(self) -> None:
        """Stops the servers that this object started."""
        if not self._children:
            return
        lock = AsyncFileLock(self.data_dir / "start.lock", timeout=_START_SECS)
        with contextlib.suppress(Timeout):
            # Nobody joins a server that is going down.
            await lock.acquire()
        try:
            while self._children:
                server, process = self._children.popitem()
                await processes.stop(process, server.stop_signal)
                with contextlib.suppress(OSError):
                    server.sockets.rmdir()
        finally:
            await lock.release()

    async def keep_running(self) -> None:
        """Starts again what this object started and what then died by itself, until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_SECS)
            for server, process in tuple(self._children.items()):
                code = process.poll()
                if code is None:
                    continue
                _log.error("bundled server died", server=server.name, code=code)
                try:
                    async with AsyncFileLock(self.data_dir / "start.lock", timeout=_START_SECS):
                        await self._start_or_join(server)
                except (Unavailable, Timeout) as error:
                    _log.warning("bundled server is not back yet", message=str(error))
                else:
                    _log.info("bundled server is back", server=server.name)

    async def _start_or_join(self, server: _Server) -> None:
        owner_file = server.log.with_suffix(".owner")
        running = _running(server)
        if running is not None:
            if processes.parent_of(running) == processes.read_pid(owner_file):
                await _wait_ready(server, lambda: processes.alive(running))
                self._children.pop(server, None)
                return
            await processes.stop_orphan(running, server.stop_signal, server.name)
        await server.prepare()
        owner_file.write_text(f"{os.getpid()}\n")
        await self._spawn(server)
        await server.finish()

    async def _spawn(self, server: _Server) -> None:
        """Starts a server; again while what was killed keeps its number until somebody reaps it."""
        begun = time.monotonic()
        while True:
            process = self._children[server] = processes.spawn(server.program())
            try:
                await _wait_ready(server, partial(_runs, process))
            except Unavailable as error:
                late = time.monotonic() - begun > _REAPED_SECS
                if late or _runs(process) or "lock file" not in error.message:
                    raise
                await asyncio.sleep(_WATCH_SECS)
            else:
                return


def _runs(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _private_directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path.resolve()


async def _wait_ready(server: _Server, running: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_SECS
    while not await server.ready():
        if not running() or time.monotonic() > end:
            last_words = processes.tail(server.log)
            raise Unavailable(f"{server.name} does not start; see {server.log}: {last_words}")
        await asyncio.sleep(_POLL_SECS)


def _running(server: _Server) -> int | None:
    pid = processes.read_pid(server.pid_file)
    if pid is None or not processes.alive(pid):
        return None
    if server.marker in processes.command_line(pid):
        return pid
    # Another program has the number by now; PostgreSQL would take it for its own former self.
    server.pid_file.unlink(missing_ok=True)
    return None
