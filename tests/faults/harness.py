"""`penchant serve` as processes, over servers of its own or the test's, to be broken and mended."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storage.embedded.postgres import BundledPostgres
from storage.embedded.processes import alive, read_pid
from tests.faults.conftest import socket_of
from tests.faults.keeper import KeptBackends
from tests.faults.proxy import Proxy, proxied
from tests.service.processes import RunningService, Services, family, free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
RECONNECT_SECS = 3.0
"""Within this time clients have found an instance that is back; whoever renews hosts waits it."""
_LISTENS = "0A"


class World:
    """A service that can be reached, and everything that it stands on.

    Attributes:
        instances: the running `penchant serve`, one or more on ports of their own.
        backends: PostgreSQL and Redis of the test; None: the service starts its bundled ones.
        proxy: stands between the service and the test's Redis.
        chance: makes all choices of a fault.
    """

    def __init__(
        self,
        services: Services,
        chance: random.Random,
        backends: KeptBackends | None,
        proxy: Proxy | None,
    ) -> None:
        self.instances: list[RunningService] = []
        self.chance = chance
        self._services = services
        self._backends = backends
        self._proxy = proxy
        self._ports: dict[RunningService, int] = {}

    @property
    def backends(self) -> KeptBackends:
        assert self._backends is not None
        return self._backends

    @property
    def proxy(self) -> Proxy:
        assert self._proxy is not None
        return self._proxy

    @property
    def service(self) -> RunningService:
        return self.instances[0]

    @property
    def target(self) -> str:
        """All instances, as a client that balances between them is given them."""
        return "ipv4:" + ",".join(instance.target for instance in self.instances)

    @property
    def data_dir(self) -> Path:
        return self._services.home / "data"

    @property
    def database_url(self) -> str:
        if self._backends is not None:
            return self._backends.database_url
        return BundledPostgres(self.data_dir, durable=True).url()

    async def serve(
        self, workers: int, port: int = 0, tree: Path = ROOT, **settings: str
    ) -> RunningService:
        """One more instance, of the code that lies in `tree`."""
        variables = {
            **settings,
            "PENCHANT_DATA_DIR": str(self.data_dir),
            "PYTHONPATH": f"{tree}:{tree / 'clients/python/src'}",
        }
        if self._backends is not None:
            variables["DATABASE_URL"] = self._backends.database_url
        if self._proxy is not None:
            variables["REDIS_URL"] = f"redis://127.0.0.1:{self._proxy.port}/0"
        instance = self._services.launch(
            "--workers", str(workers), port=port or free_port(), **variables
        )
        await asyncio.to_thread(instance.wait_ready)
        self.instances.append(instance)
        return instance

    async def serve_again(self, dead: RunningService, workers: int) -> None:
        """An instance that takes the place and the port of one that has ended."""
        await asyncio.to_thread(dead.wait)
        self.instances.remove(dead)
        dead.close()
        await self.serve(workers, dead.port)

    def listening_workers(self) -> list[int]:
        """Workers of the first instance that take connections."""
        return [pid for pid in self.service.workers() if listens(pid, self.service.port)]

    async def full_strength(self, workers: int) -> None:
        """Until so many workers take connections."""

        async def so() -> bool:
            return len(self.listening_workers()) >= workers

        await until(so)

    def bundled(self, pid_file: str) -> int:
        """The process id of a bundled server."""
        pid = read_pid(self.data_dir / pid_file)
        assert pid is not None
        return pid

    async def replaced(self, pid_file: str, dead: int) -> bool:
        """Whether a bundled server runs that is another than the dead one."""
        pid = read_pid(self.data_dir / pid_file)
        return pid is not None and pid != dead and alive(pid)

    async def healthy(self) -> bool:
        """Whether every instance says that it serves everything."""
        return all([await serving(instance.target) for instance in self.instances])


async def serving(target: str) -> bool:
    """What health says of the service that needs PostgreSQL for everything."""
    async with grpc.aio.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service="penchant.v1.InteractionService")
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def listens(pid: int, port: int) -> bool:
    """Whether a process has a TCP socket that listens on the port (Linux)."""
    try:
        net = Path(f"/proc/{pid}/net")
        lines = [line for name in ("tcp", "tcp6") for line in (net / name).read_text().splitlines()]
        sockets = {
            f"socket:[{fields[9]}]"
            for fields in map(str.split, lines)
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port
        }
        return any(str(entry.readlink()) in sockets for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def kill(*pids: int) -> None:
    """SIGKILL, at once."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def everything(world: World) -> list[int]:
    """The process ids of an instance and of the servers that it started, wherever they belong."""
    pids = world.service.family()
    for file in ("postgres/postmaster.pid", "redis.pid"):
        pid = read_pid(world.data_dir / file)
        if pid is not None and alive(pid):
            pids += family(pid)
    return sorted(set(pids))


@asynccontextmanager
async def world_on_own_servers(home: Path) -> AsyncIterator[World]:
    """A durable PostgreSQL and, behind a proxy, a Redis of the test; nobody serves yet."""
    backends = KeptBackends(home / "backends")
    services = Services(home)
    await backends.start()
    try:
        async with proxied(socket_of(backends.redis_url)) as proxy:
            try:
                yield World(services, random.Random(5), backends, proxy)
            finally:
                await asyncio.to_thread(services.close)
    finally:
        await backends.stop()


@asynccontextmanager
async def world_of_one_command(home: Path) -> AsyncIterator[World]:
    """`penchant serve` with two workers and its bundled servers, as a beginner starts it."""
    services = Services(home)
    world = World(services, random.Random(5), None, None)
    try:
        await world.serve(workers=2)
        yield world
    finally:
        await asyncio.to_thread(services.close)
