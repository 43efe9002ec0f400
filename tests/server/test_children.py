"""Child processes, and the port that the parent keeps for them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from server.children import Child
from server.processes import reserved_port
from server.settings import Settings
from tests.waiting import until

PROGRAM = """
    import signal, sys, time
    text = sys.stdin.read()
    with open("told", "a") as told:
        told.write(text)
    if "stubborn" in text:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("READY", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def make_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Child]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))

    def make(settings: str = "told. ") -> Child:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return Child("child", "program", settings, environment, lambda pid: None)

    return make


async def ready(child: Child) -> int:
    async with asyncio.timeout(10):
        await child.ready.wait()
    assert child.pid is not None
    return child.pid


async def test_child_that_dies_is_started_again(
    make_child: Callable[..., Child], tmp_path: Path
) -> None:
    child = make_child()
    first = await ready(child)
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.ready.is_set() and child.pid != first)
    assert (tmp_path / "told").read_text() == "told. told. "
    await child.stop(5)
    assert child.pid is None


async def test_child_that_does_not_stop_is_killed(
    make_child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.children._KILL_AFTER_SECS", 0.1)
    child = make_child("stubborn")
    await ready(child)
    await child.stop(0)
    assert child.pid is None


async def test_child_is_stopped_while_it_waits_to_be_started_again(
    make_child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.children._FIRST_PAUSE_SECS", 60)
    monkeypatch.setattr("server.children._LONGEST_PAUSE_SECS", 60)
    child = make_child()
    os.kill(await ready(child), signal.SIGKILL)
    await until(lambda: child.pid is None)
    async with asyncio.timeout(20):
        await child.stop(5)


async def test_port_is_chosen_where_none_is_given() -> None:
    async with reserved_port(Settings(port=0)) as settings:
        assert settings.port > 0


async def test_port_of_another_program_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        wanted = Settings(port=other.getsockname()[1], shutdown_grace_secs=0.2)
        with pytest.raises(OSError, match="in use"):
            async with reserved_port(wanted):
                pass


async def test_port_of_a_program_that_stops_is_waited_for() -> None:
    other = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    asyncio.get_running_loop().call_later(0.2, other.close)
    wanted = Settings(port=other.getsockname()[1])
    async with reserved_port(wanted) as settings:
        assert settings.port == wanted.port


def test_parent_loads_no_grpc() -> None:
    program = "import sys, server.processes; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
