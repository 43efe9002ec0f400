"""Debian's PostgreSQL 15, which has no pgvector."""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.embedded.accounts import let_through, postgres_account
from storage.embedded.processes import Program, spawn, stop, until

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def running_postgres_15(directory: Path) -> Iterator[str]:
    """Gives the URL of a server whose cluster is in the directory, and stops it after that."""
    if not _DEBIAN_15.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI must have Debian's package postgresql-15")
        pytest.skip("Debian's package postgresql-15 is not installed")
    account = postgres_account()
    sockets = Path(tempfile.mkdtemp(prefix="pg15-"))
    cluster = directory / "cluster"
    let_through(cluster)
    if account is not None:
        for owned in (sockets, directory):
            os.chown(owned, account.uid, account.gid)
    initdb = str(_DEBIAN_15 / "initdb")
    subprocess.run(
        [initdb, "-D", str(cluster), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"],
        check=True,
        capture_output=True,
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(sockets)]
    server = spawn(
        Program(
            name="PostgreSQL 15",
            command=[str(_DEBIAN_15 / "postgres"), "-D", str(cluster), *options],
            account=account,
            log=directory / "pg15.log",
            stop_signal=signal.SIGINT,
            environment={},
        )
    )
    with asyncio.Runner() as loop:
        ready = cluster / "postmaster.pid"
        assert loop.run(
            until(lambda: ready.exists() and "ready" in ready.read_text(), timeout_secs=20)
        )
        yield f"postgresql://postgres@{str(sockets).replace('/', '%2F')}/postgres"
        loop.run(stop(server, signal.SIGINT))
    sockets.rmdir()
