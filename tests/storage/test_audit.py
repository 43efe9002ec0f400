"""The audit's table: the service appends, maintenance reads, and nobody changes what is written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from storage.audit import AuditEntry, AuditStore
from storage.database import Database
from storage.retention import RetentionStore

ENTRY = AuditEntry(
    actor="key:aaaaaaaaaaaa",
    method="/penchant.v1.AdminService/DeleteTenant",
    tenant_id="shop",
    target="",
    code="OK",
    peer="ipv4:10.0.0.7:41234",
    request_id="r-1",
)
APPEND = (
    "INSERT INTO audit_events (actor, method, tenant_id, target, code, peer, request_id)"
    " VALUES ('x', 'm', '', '', 'OK', '', '')"
)
FORBIDDEN = [
    "UPDATE audit_events SET actor = 'nobody'",
    "DELETE FROM audit_events",
    "TRUNCATE audit_events",
    APPEND.replace("(actor", "(occurred_at, actor").replace("('x'", "('epoch', 'x'"),
    APPEND.replace("(actor", "(event_id, actor").replace(
        "VALUES ('x'", "OVERRIDING SYSTEM VALUE VALUES (1, 'x'"
    ),
]


@pytest.fixture
def audit(database: Database, maintenance_database: Database) -> AuditStore:
    return AuditStore(database, maintenance_database)


async def test_events_come_newest_first_and_page_by_number(audit: AuditStore):
    wanted = [replace(ENTRY, request_id=f"r-{n}") for n in range(3)]
    for entry in wanted:
        await audit.append(entry)
    first = await audit.page(None, None, 2)
    rest = await audit.page(None, first[-1].event_id, 2)
    assert [event.entry for event in first + rest] == wanted[::-1]
    assert all(abs(datetime.now(UTC) - event.occurred_at) < timedelta(hours=1) for event in first)


async def test_session_that_had_no_tenant_yet_appends_for_none(audit: AuditStore):
    await audit.append(replace(ENTRY, tenant_id=""))
    assert [event.entry.tenant_id for event in await audit.page(None, None, 9)] == [""]


async def test_events_of_a_tenant_are_its_own(audit: AuditStore):
    for tenant_id in ("shop", "", "other"):
        await audit.append(replace(ENTRY, tenant_id=tenant_id))
    found = await audit.page("shop", None, 10)
    assert [event.entry.tenant_id for event in found] == ["shop"]


@pytest.mark.parametrize("statement", [*FORBIDDEN, "SELECT actor FROM audit_events"])
async def test_service_may_only_append(database: Database, audit: AuditStore, statement: str):
    await audit.append(ENTRY)
    async with database.connection("shop") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    assert [event.entry for event in await audit.page(None, None, 9)] == [ENTRY]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_maintenance_may_read_and_append(
    maintenance_database: Database, audit: AuditStore, statement: str
):
    async with maintenance_database.connection(None) as connection:
        await connection.execute(APPEND)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    assert len(await audit.page(None, None, 9)) == 1


async def test_service_appends_for_the_tenant_of_its_session_alone(database: Database):
    async with database.connection("shop") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(APPEND)


async def test_purge_takes_old_events_in_slices(
    owner_database: Database, maintenance_database: Database, audit: AuditStore
):
    for number in range(5):
        await audit.append(replace(ENTRY, request_id=str(number)))
    async with owner_database.connection(None) as connection:
        await connection.execute(
            "UPDATE audit_events SET occurred_at = 'epoch' WHERE request_id <> '4'"
        )
    retention = RetentionStore(owner_database, maintenance_database, slice_size=3)
    assert await retention.purge_audit(datetime.now(UTC) - timedelta(days=1)) == 4
    assert [event.entry.request_id for event in await audit.page(None, None, 9)] == ["4"]


async def test_owner_without_special_rights_has_a_policy_to_purge_by(owner_database: Database):
    """The bundled owner is a superuser, whom no policy binds; an operator's need not be."""
    async with owner_database.connection(None) as connection:
        roles = await connection.fetchval(
            "SELECT roles::text[] FROM pg_policies"
            " WHERE tablename = 'audit_events' AND policyname = 'retention'"
        )
        owner = await connection.fetchval("SELECT current_user::text")
    assert roles == [owner]
