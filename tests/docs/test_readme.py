"""The README's lines, run as they stand: a stranger's first five minutes."""

import asyncio
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.docs import reading
from tests.service.grpcurl import GRPCURL
from tests.waiting import until

_PORT = "50051"
_START_SECS = 90


def _commands() -> Iterator[list[str]]:
    for line in reading.shell_lines(reading.README):
        if line.startswith("grpcurl "):
            yield shlex.split(line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[str]:
    """The port of `penchant serve`, run as a process that knows nothing of this one's environment.

    Other tests may serve at the same time, so it takes a free port and serves no metrics.
    """
    port = str(_free_port())
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PENCHANT_METRICS_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "penchant"), "serve", "--port", port,
        env=environment, cwd=tmp_path, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[str] = []
    reader: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(_START_SECS):
            while "Penchant serves on" not in "".join(lines[-1:]):
                line = await process.stderr.readline()
                assert line, "".join(lines)
                lines.append(line.decode())
        reader = asyncio.create_task(_drain(process.stderr))
        yield port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 60)
        if reader is not None:
            await reader
    assert code == 0


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


def test_grpcurl_is_there_in_ci() -> None:
    assert GRPCURL is not None or not os.environ.get("CI")


@pytest.mark.timeout(240)
@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
async def test_readme_lines_do_what_they_say(port: str) -> None:
    assert GRPCURL is not None
    outputs: list[tuple[str, str]] = []
    check = (GRPCURL, "-plaintext", f"localhost:{port}", "grpc.health.v1.Health/Check")

    async def serving() -> bool:
        return '"SERVING"' in (await _run(*check))[1]

    await until(serving)
    for command in _commands():
        given = [
            GRPCURL,
            *(word.replace(f"localhost:{_PORT}", f"localhost:{port}") for word in command[1:]),
        ]
        code, output = await _run(*given)
        assert code == 0, f"{shlex.join(command)}\n{output}"
        outputs.append((shlex.join(command[1:]), output))
    by_ending = {given.split()[-1]: output for given, output in reversed(outputs)}
    assert "penchant.v1.RecommendationService" in by_ending["list"]
    assert "rpc Recommend " in by_ending["penchant.v1.RecommendationService"]
    assert '"SERVING"' in by_ending["grpc.health.v1.Health/Check"]
    answers = [out for given, out in outputs if given.endswith("RecommendationService/Recommend")]
    assert re.findall(r'"entity_id": "(\w+)"', answers[0]) == ["hyperion", "dune", "emma", "dune"]
    assert '"reasons"' in answers[0]
    assert '"explanation"' in answers[0]
    assert "emma" not in answers[1]
    for example in reading.blocks(reading.README, "python"):
        script = example.replace(f"localhost:{_PORT}", f"localhost:{port}")
        code, output = await _run(sys.executable, "-c", script)
        assert code == 0, output
        assert re.search(r"^\w+ [\d.]+ \['\w+'", output, re.MULTILINE), output
