"""A standby takes over from a primary that hangs: by a list of hosts, by a name that moves."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from storage.config import MigrationConfig
from storage.embedded import EmbeddedServers
from storage.embedded.accounts import postgres_account
from storage.embedded.postgres import _binaries
from storage.embedded.processes import read_pid
from storage.migrations import MigrationRunner
from tests.faults.conftest import execute, idle, socket_of
from tests.faults.proxy import Proxy, proxied
from tests.rpc.conftest import Service, refusal_of, running, settings_for
from tests.service.processes import family, frozen
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RECOVERY_SECS = 5.0 + 5.0
"""As promised, and what a busy machine may add."""
NAME = "postgres.penchant.test"


@dataclass
class Pair:
    """A primary and its standby, each behind a proxy of its own address."""

    primary: EmbeddedServers
    standby: EmbeddedServers
    primary_proxy: Proxy
    standby_proxy: Proxy

    def url(self, *hosts: str) -> str:
        assert self.primary.database_url is not None
        return f"postgresql://postgres@{','.join(hosts)}/penchant"

    @property
    def postmaster(self) -> int:
        pid = read_pid(self.primary.data_dir / "postgres/postmaster.pid")
        assert pid is not None
        return pid

    async def promote(self) -> None:
        assert self.standby.database_url is not None
        await execute(self.standby.database_url, "SELECT pg_promote()")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Replication by streaming, asynchronous."""
    async with AsyncExitStack() as stack:
        primary = await EmbeddedServers.start(tmp_path / "one", postgres=True, redis=False)
        stack.push_async_callback(primary.stop)
        assert primary.database_url is not None
        await MigrationRunner(primary.database_url, MigrationConfig()).run_migrations()
        sockets = socket_of(primary.database_url)
        standby_dir = tmp_path / "two"
        standby_dir.mkdir(mode=0o711)
        await asyncio.to_thread(copy_of, sockets.parent, standby_dir)
        standby = await EmbeddedServers.start(standby_dir, postgres=True, redis=False)
        stack.push_async_callback(standby.stop)
        assert standby.database_url is not None
        one = await stack.enter_async_context(proxied(sockets))
        two = Proxy(socket_of(standby.database_url), "127.0.0.2")
        two.port = one.port
        await two.start()
        stack.push_async_callback(two.close)
        yield Pair(primary, standby, one, two)


def copy_of(sockets: Path, directory: Path) -> None:
    account = postgres_account()
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    subprocess.run(
        [
            str(_binaries() / "pg_basebackup"),
            *("--host", str(sockets), "--username", "postgres", "--checkpoint", "fast"),
            *("--pgdata", str(directory / "postgres"), "--write-recovery-conf"),
        ],
        check=True,
        capture_output=True,
        cwd="/",
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )
    if account is not None:
        os.chown(directory, os.getuid(), os.getgid())


async def fill(service: Service) -> None:
    for number in range(5):
        await service.put(f"b{number:02}")
    await service.did("ada", "b00")
    assert not (await service.recommend("ada")).degraded


async def writable(service: Service) -> bool:
    try:
        await service.did("ada", "b01")
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert (refusal.code, refusal.retry) == ("UNAVAILABLE", True)
        return False
    return True


async def replayed(pair: Pair) -> None:
    """The standby has everything."""
    assert pair.primary.database_url is not None
    assert pair.standby.database_url is not None
    primary = await asyncpg.connect(pair.primary.database_url)
    written = await primary.fetchval("SELECT pg_current_wal_flush_lsn()::text")
    await primary.close()
    standby = await asyncpg.connect(pair.standby.database_url)
    await until(
        lambda: standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written)
    )
    await standby.close()


async def test_list_of_hosts_leads_to_the_primary_and_after_a_failover_to_the_other(
    pair: Pair, redis_url: str, tmp_path: Path
) -> None:
    port = pair.primary_proxy.port
    url = pair.url(f"127.0.0.2:{port}", f"127.0.0.1:{port}")  # the standby stands first
    assert await MigrationRunner(url, MigrationConfig()).run_migrations() == []
    async with running(settings_for(url, redis_url, tmp_path)) as service:
        await fill(service)
        await replayed(pair)
        with frozen(*family(pair.postmaster)):
            await until(lambda: degraded(service))
            assert not await writable(service)
            await pair.promote()
            await until(lambda: writable(service), RECOVERY_SECS)
            assert not (await service.recommend("ada")).degraded
            os.kill(pair.postmaster, signal.SIGKILL)


async def degraded(service: Service) -> bool:
    return bool((await service.recommend("ada")).degraded)


async def test_name_with_a_new_address_leads_to_the_new_primary(
    pair: Pair, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = {NAME: "127.0.0.1"}
    resolve = socket.getaddrinfo

    def by_table(host: Any, *rest: Any, **options: Any) -> Any:
        """The resolver of a network whose DNS can be changed."""
        return resolve(addresses.get(host, host), *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", by_table)
    url = pair.url(f"{NAME}:{pair.primary_proxy.port}")
    async with running(settings_for(url, redis_url, tmp_path)) as service:
        await fill(service)
        await replayed(pair)
        # The machine is gone: it answers nothing, and closes nothing.
        pair.primary_proxy.freeze()
        await pair.promote()
        addresses[NAME] = "127.0.0.2"
        await until(lambda: writable(service), RECOVERY_SECS)
        assert not (await service.recommend("ada")).degraded
        stats = service.deps.database.pool_stats()
        await until(lambda: idle(service))
        assert stats.size <= service.settings.database.max_connections
