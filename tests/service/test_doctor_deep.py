"""`penchant doctor --deep`: sound data, and data in which something is wrong."""

import asyncio
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from tests.service.processes import penchant

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]


def rows_of(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """The table's rows: examined and problems by check."""
    found = re.findall(r"^│ (\w+) +│ +([\d,]+) +│ +([\d,]+) +│$", done.stdout, re.MULTILINE)
    return {check: (examined, problems) for check, examined, problems in found}


def execute(url: str, *statements: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(work())


def test_doctor_reads_all_tenants(tmp_path: Path, database_url: str, redis_url: str) -> None:
    def doctor() -> subprocess.CompletedProcess[str]:
        return penchant(
            tmp_path, "doctor", "--deep", DATABASE_URL=database_url, REDIS_URL=redis_url
        )

    for tenant in ("north", "south"):
        assert penchant(tmp_path, "tenant", "create", tenant, DATABASE_URL=database_url)
    sound = doctor()
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert "bad" not in sound.stdout
    assert rows_of(sound)["profile_counts"] == ("0", "0")
    assert len(rows_of(sound)) == 8

    execute(
        database_url,
        "SET ROLE penchant_maintenance",
        "INSERT INTO entity_neighbours VALUES ('ghost', 1, '{2}', '{1}')",
        "INSERT INTO user_profiles (tenant_id, user_id, landmark, interaction_count)"
        " VALUES ('south', 'Ada Lovelace', now(), 2)",
    )
    wrong = doctor()
    assert wrong.returncode == 1
    assert rows_of(wrong)["profile_counts"] == ("1", "1")
    assert rows_of(wrong)["orphans"][1] == "1"
    problems = re.findall(r"^bad  (.*)\n +-> (.*)$", wrong.stdout, re.MULTILINE)
    assert [re.sub(r"[0-9a-f]{32}", "*", what) for what, _ in problems] == [
        "all tables: orphans: 1 of 3, such as entity_neighbours of ghost: 1",
        "south: profile_counts: 1 of 1, such as user:*",
    ]
    assert all(remedy for _, remedy in problems)
    assert "Lovelace" not in wrong.stdout + wrong.stderr


def test_doctor_does_not_read_what_is_not_there(
    tmp_path: Path, empty_database_url: str, redis_url: str
) -> None:
    done = penchant(
        tmp_path, "doctor", "--deep", DATABASE_URL=empty_database_url, REDIS_URL=redis_url
    )
    assert done.returncode == 1
    assert "migrations pending" in done.stdout
    assert not rows_of(done)
    assert done.stderr == ""
