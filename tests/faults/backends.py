"""A PostgreSQL and a Redis of a test's own, to be killed, frozen and started again."""

import asyncio
from pathlib import Path

from storage.embedded import EmbeddedServers
from storage.embedded.processes import read_pid
from storage.exceptions import Unavailable


class Backends:
    """A PostgreSQL and a Redis that can be broken and mended."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self._directory = directory
        self._durable = durable
        self._started: list[EmbeddedServers] = []
        self.database_url = self.redis_url = ""

    async def start(self) -> None:
        """Starts what does not run."""
        for former in self._started:
            for process in former._children.values():
                process.poll()  # a killed one that nobody reaped looks alive to its successor
        servers = await EmbeddedServers.start(
            self._directory, postgres=True, redis=True, durable=self._durable
        )
        self._started.append(servers)
        assert servers.database_url is not None
        assert servers.redis_url is not None
        self.database_url, self.redis_url = servers.database_url, servers.redis_url

    async def start_again(self) -> None:
        """Like `start`, while what a killed server left behind may still be ending."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.start()
                except Unavailable:
                    await asyncio.sleep(0.2)

    async def stop(self) -> None:
        for servers in self._started:
            await servers.stop()

    @property
    def redis(self) -> int:
        return self._pid(self._directory / "redis.pid")

    @property
    def postgres(self) -> int:
        return self._pid(self._directory / "postgres/postmaster.pid")

    @staticmethod
    def _pid(file: Path) -> int:
        pid = read_pid(file)
        assert pid is not None
        return pid
