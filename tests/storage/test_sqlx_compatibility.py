"""Penchant's migrator and sqlx-cli take turns on one database."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from storage.migrations import MigrationRunner
from storage.migrations.migrator import SHIPPED

pytestmark = pytest.mark.skipif(
    shutil.which("sqlx") is None and not (os.environ.get("CI") and shutil.which("cargo")),
    reason="sqlx-cli is not installed",
)


async def _sqlx(url: str, source: Path, command: str, *options: str) -> list[str]:
    """The lines that `sqlx migrate COMMAND` prints."""
    process = await asyncio.create_subprocess_exec(
        *("sqlx", "migrate", command, "--source", str(source), "--database-url", url, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


@pytest.fixture(params=["small", "shipped"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Migrations made for this test, with line ends of two kinds, and the shipped ones."""
    if request.param == "shipped":
        return SHIPPED
    for name, text in {
        "0001_one_table.up.sql": "CREATE TABLE one (n int);\r\nSELECT 'é; $$';\r\n",
        "0001_one_table.down.sql": "DROP TABLE one;",
        "0002_online.up.sql": "-- no-transaction\nCREATE INDEX CONCURRENTLY one_n ON one (n);",
        "0002_online.down.sql": "-- no-transaction\nDROP INDEX CONCURRENTLY one_n;",
    }.items():
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


async def test_sqlx_finds_nothing_to_do_after_penchant(
    empty_database_url: str, source: Path
) -> None:
    applied = await MigrationRunner(empty_database_url, source=source).run_migrations()
    info = await _sqlx(empty_database_url, source, "info")
    assert info == [f"{m.version}/installed {m.description}" for m in applied]
    assert await _sqlx(empty_database_url, source, "run") == []


async def test_penchant_finds_nothing_to_do_after_sqlx(
    empty_database_url: str, source: Path
) -> None:
    runner = MigrationRunner(empty_database_url, source=source)
    steps = await _sqlx(empty_database_url, source, "run")
    assert await runner.pending() == []
    assert await runner.run_migrations() == []
    applied = await runner.list_applied_migrations()
    assert [m.success for m in applied] == [True] * len(steps)


async def test_each_undoes_what_the_other_did(empty_database_url: str, source: Path) -> None:
    runner = MigrationRunner(empty_database_url, source=source)
    versions = [m.version for m in await runner.run_migrations()]
    await _sqlx(empty_database_url, source, "revert")
    assert [m.version for m in await runner.pending()] == versions[-1:]
    await _sqlx(empty_database_url, source, "run")
    assert [m.version for m in await runner.revert()] == versions[-1:]
    await _sqlx(empty_database_url, source, "revert", "--target-version", "0")
    assert await runner.get_current_version() is None
    await _sqlx(empty_database_url, source, "run")
    assert [m.version for m in await runner.revert(to=0)] == versions[::-1]


async def test_both_make_the_same_table(empty_database_url: str, source: Path) -> None:
    runner = MigrationRunner(empty_database_url, source=source)
    await runner.run_migrations()
    by_penchant = [
        (m.version, m.description, m.success, m.checksum)
        for m in await runner.list_applied_migrations()
    ]
    await runner.revert(to=0)
    await _sqlx(empty_database_url, source, "run")
    by_sqlx = [
        (m.version, m.description, m.success, m.checksum)
        for m in await runner.list_applied_migrations()
    ]
    assert by_sqlx == by_penchant
