"""The bundled servers: shared, outliving nobody, recovering by themselves."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from storage.config import DatabaseConfig
from storage.database import Database
from storage.embedded import EmbeddedServers
from storage.embedded.postgres import buffers_of
from storage.embedded.processes import alive, read_pid, until
from storage.exceptions import FailedPrecondition

_PARENT = """
import asyncio, sys
from pathlib import Path
from storage.embedded import EmbeddedServers

async def main():
    servers = await EmbeddedServers.start(Path(sys.argv[1]), postgres=True, redis=True)
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _no_clusters_left(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture
def other_command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has started the servers under `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        # The servers follow their parent; a last start and stop waits for that and clears up.
        with asyncio.Runner() as loop:
            servers = loop.run(_start(tmp_path))
            loop.run(servers.stop())


async def _start(directory: Path, **settings: bool) -> EmbeddedServers:
    return await EmbeddedServers.start(
        directory, **({"postgres": True, "redis": True, "durable": False} | settings)
    )


async def _execute(url: str | None, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def _mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


async def test_start_joins_the_servers_of_another_command(
    tmp_path: Path, other_command: subprocess.Popen[str]
) -> None:
    joined = await _start(tmp_path)
    await joined.stop()
    assert await _execute(joined.database_url, "SELECT current_database()") == "penchant"
    with redis.Redis.from_url(str(joined.redis_url)) as client:
        assert client.ping()
    assert other_command.poll() is None


async def test_start_after_the_parent_was_killed_keeps_the_data(
    tmp_path: Path, other_command: subprocess.Popen[str]
) -> None:
    joined = await _start(tmp_path)
    await _execute(joined.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
    former = read_pid(tmp_path / "postgres" / "postmaster.pid")
    other_command.send_signal(signal.SIGKILL)
    other_command.wait()

    again = await _start(tmp_path)
    try:
        assert read_pid(tmp_path / "postgres" / "postmaster.pid") != former
        assert await _execute(again.database_url, "SELECT n FROM kept") == 42
    finally:
        await again.stop()


async def test_servers_of_a_killed_parent_stop_by_themselves(
    tmp_path: Path, other_command: subprocess.Popen[str]
) -> None:
    pids = [
        read_pid(tmp_path / "postgres" / "postmaster.pid"),
        read_pid(tmp_path / "redis.pid"),
    ]
    assert None not in pids
    other_command.send_signal(signal.SIGKILL)
    other_command.wait()
    assert await until(lambda: not any(alive(pid) for pid in pids if pid), timeout_secs=20)


async def test_start_after_postgres_was_killed_recovers(tmp_path: Path) -> None:
    servers = await _start(tmp_path, redis=False, durable=True)
    await _execute(servers.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
    pid = read_pid(tmp_path / "postgres" / "postmaster.pid")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await servers.stop()

    again = await _start(tmp_path, redis=False)
    try:
        assert await _execute(again.database_url, "SELECT n FROM kept") == 42
    finally:
        await again.stop()


async def test_start_with_a_pid_file_that_names_another_program(tmp_path: Path) -> None:
    servers = await _start(tmp_path, redis=False)
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    left_over = pid_file.read_text().splitlines()
    await servers.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *left_over[1:]]))

    again = await _start(tmp_path, redis=False)
    try:
        assert await _execute(again.database_url, "SELECT 1") == 1
    finally:
        await again.stop()


async def test_two_starts_at_once_share_one_server(tmp_path: Path) -> None:
    first, second = await asyncio.gather(
        _start(tmp_path, redis=False), _start(tmp_path, redis=False)
    )
    try:
        assert first.database_url == second.database_url
    finally:
        await first.stop()
        await second.stop()


async def test_database_waits_for_a_server_that_is_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = await _start(tmp_path, redis=False)
    await servers.stop()
    config = DatabaseConfig(url=servers.database_url, max_connections=1)
    connecting = asyncio.create_task(Database(config, role=None).connect())
    await asyncio.sleep(0.2)
    assert not connecting.done()

    again = await _start(tmp_path, redis=False)
    database = await connecting
    monkeypatch.setattr("storage.database._HEALTH_TIMEOUT_SECS", 30)
    assert await database.health_check() is True
    await again.stop()
    assert await database.health_check() is False
    await database.close()


async def test_servers_listen_on_private_sockets_alone(tmp_path: Path) -> None:
    servers = await _start(tmp_path)
    try:
        assert await _execute(servers.database_url, "SHOW listen_addresses") == ""
        sockets = await _execute(servers.database_url, "SHOW unix_socket_directories")
        assert _mode(str(sockets)) == 0o700
        with redis.Redis.from_url(str(servers.redis_url)) as client:
            assert (client.config_get("port"), client.config_get("save")) == (
                {"port": "0"},
                {"save": ""},
            )
    finally:
        await servers.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
async def test_start_refuses_a_socket_directory_of_somebody_else(tmp_path: Path) -> None:
    servers = await _start(tmp_path, postgres=False)
    await servers.stop()
    assert servers.redis_url is not None
    sockets = Path(servers.redis_url.removeprefix("unix://").split("?")[0]).parent
    sockets.mkdir()
    os.chown(sockets, 12345, 12345)
    try:
        with pytest.raises(FailedPrecondition, match="somebody else"):
            await _start(tmp_path, postgres=False)
    finally:
        sockets.rmdir()


@pytest.mark.parametrize(
    ("memory_mib", "buffers_mib"),
    [(512, 128), (4_096, 512), (64_000, 1_024)],
    ids=["little", "some", "much"],
)
def test_buffers_go_by_the_memory(memory_mib: int, buffers_mib: int) -> None:
    assert buffers_of(memory_mib << 20) == buffers_mib << 20
