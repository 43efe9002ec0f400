"""Lists of hosts: of one that is gone or hangs the next is asked."""

import time
from pathlib import Path

import asyncpg
import pytest

from storage.hosts import Hosts
from tests.faults.conftest import socket_of
from tests.faults.proxy import proxied
from tests.service.processes import free_port


def listed(url: str, *hosts: str) -> str:
    return f"postgresql://postgres@{','.join(hosts)}/{url.rpartition('/')[2]}"


async def answer(hosts: Hosts) -> tuple[int, float]:
    begun = time.monotonic()
    connection = await hosts.connect(timeout=20)
    try:
        return await connection.fetchval("SELECT 1"), time.monotonic() - begun
    finally:
        await connection.close()


async def test_host_that_is_gone_is_passed_over(database_url: str) -> None:
    async with proxied(socket_of(database_url)) as proxy:
        url = listed(database_url, f"127.0.0.1:{free_port()}", f"127.0.0.1:{proxy.port}")
        assert (await answer(Hosts(url)))[0] == 1


async def test_host_that_hangs_holds_nobody_up_and_the_other_is_asked_first_next_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(socket_of(database_url)) as dead, proxied(socket_of(database_url)) as good:
        dead.freeze()
        hosts = Hosts(listed(database_url, f"127.0.0.1:{dead.port}", f"127.0.0.1:{good.port}"))
        found, seconds = await answer(hosts)
        assert found == 1
        assert 0.4 < seconds < 10
        assert dead.connections == 1
        monkeypatch.setattr("storage.hosts._HEAD_START_SECS", 20)
        await answer(hosts)
        assert dead.connections == 1


async def test_directories_of_sockets_are_listed_in_the_query(
    database_url: str, tmp_path: Path
) -> None:
    name = database_url.rpartition("/")[2]
    directory = socket_of(database_url).parent
    hosts = Hosts(f"postgresql:///{name}?host={tmp_path},{directory}&port=5432&user=postgres")
    assert (await answer(hosts))[0] == 1


async def test_no_host_that_answers_is_the_first_ones_error() -> None:
    hosts = Hosts(f"postgresql://u@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/d")
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await hosts.connect(timeout=5)


async def test_several_hosts_that_are_no_primary_are_refused(database_url: str) -> None:
    async with proxied(socket_of(database_url)) as one, proxied(socket_of(database_url)) as two:
        url = listed(database_url, f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}")
        hosts = Hosts(f"{url}?target_session_attrs=standby")
        assert not hosts.one_server
        with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
            await hosts.connect(timeout=20)
