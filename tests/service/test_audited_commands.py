"""Commands that change something leave an event in the audit, under the account that ran them."""

import os
import pwd
import socket
from pathlib import Path

import asyncpg
import pytest

from tests.service.processes import penchant

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

PEPPER = "a pepper of a test, thirty-two characters long"


async def test_commands_are_in_the_audit(tmp_path: Path, database_url: str) -> None:
    def run(*words: str) -> str:
        done = penchant(
            tmp_path,
            *words,
            DATABASE_URL=database_url,
            PENCHANT_KEY_PEPPER=PEPPER,
            LOGNAME="mallory",
            USER="mallory",
        )
        assert (done.returncode == 0) == bool(done.stdout), done.stderr
        return done.stdout.strip()

    run("tenant", "create", "shop")
    run("tenant", "create", "shop")
    key = run("keys", "create", "--tenant", "shop", "--scope", "recommend:read")
    key_id = key.split("_")[1]
    run("keys", "list")
    run("keys", "revoke", key)  # all of it, by mistake
    run("keys", "revoke", key_id)

    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT * FROM audit_events ORDER BY event_id")
    await connection.close()
    assert [(r["method"], r["tenant_id"], r["target"], r["code"]) for r in rows] == [
        ("tenant create", "shop", "", "OK"),
        ("tenant create", "shop", "", "ALREADY_EXISTS"),
        ("keys create", "shop", key_id, "OK"),
        ("keys revoke", "", "", "NOT_FOUND"),
        ("keys revoke", "shop", key_id, "OK"),
    ]
    account = pwd.getpwuid(os.geteuid()).pw_name
    assert {(row["actor"], row["peer"]) for row in rows} == {
        (f"cli:{account}", f"host:{socket.gethostname()}")
    }
    assert key.rpartition("_")[2] not in str(rows)


async def test_event_that_cannot_be_written_fails_no_command(
    tmp_path: Path, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("REVOKE INSERT ON audit_events FROM penchant_service")
    await connection.close()
    done = penchant(tmp_path, "tenant", "create", "shop", DATABASE_URL=database_url)
    assert (done.returncode, done.stdout) == (0, "made tenant shop with 512 dimensions\n")
    assert (
        done.stderr == "penchant: the audit lacks this command: PostgreSQL did not take its event\n"
    )
