"""Commands that change something, in the audit like the calls that do."""

import os
import pwd
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.audit import AuditLog
from engine.secret import ServerSecret
from server.cli.console import complain
from server.settings import Settings
from storage.audit import AuditEntry, AuditStore
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.exceptions import PenchantError, Unavailable


@dataclass(slots=True)
class Event:
    """What the event of a command is to say; the command may fill it as it goes."""

    tenant_id: str = ""
    target: str = ""


@asynccontextmanager
async def audited(
    settings: Settings, command: str, tenant_id: str = "", target: str = ""
) -> AsyncIterator[Event]:
    """A block whose event is written when it ends, whether well or with an error.

    Of a command that found no PostgreSQL there is none, nor while the schema has no audit. An event
    that cannot be written does not make a command fail that did not.

    Args:
        settings: with the URL of the database.
        command: its words, such as `tenant create`.
    """
    from server.errors import status_code

    event = Event(tenant_id, target)
    try:
        yield event
    except PenchantError as error:
        if not isinstance(error, Unavailable):
            await _write(settings, command, event, status_code(error).name)
        raise
    if not await _write(settings, command, event, "OK"):
        complain("the audit lacks this command: PostgreSQL did not take its event")


async def _write(settings: Settings, command: str, event: Event, code: str) -> bool:
    one = settings.database.model_copy(update={"min_connections": 1, "max_connections": 1})
    secret = ServerSecret(settings.data_dir, settings.key_pepper)
    try:
        async with (
            Database(one, role=SERVICE_ROLE) as service,
            Database(one, role=MAINTENANCE_ROLE) as maintenance,
        ):
            store = AuditStore(service, maintenance)
            if await store.is_there():
                await AuditLog(store, secret).append(
                    AuditEntry(
                        actor=f"cli:{_account()}",
                        method=command,
                        tenant_id=event.tenant_id,
                        target=event.target,
                        code=code,
                        peer=f"host:{socket.gethostname()}",
                        request_id="",
                    )
                )
    except Exception:  # noqa: BLE001 - whatever hinders the event, the command did what it did
        return False
    return True


def _account() -> str:
    """By the process's number: what the environment says about it is anybody's."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
