"""What was administrated: rows that the service may only append, and maintenance may read."""

from dataclasses import dataclass
from datetime import datetime

from storage.database import Database
from storage.queries import load

_SQL = load("audit")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event to be written; empty texts where there is nothing to say.

    Attributes:
        actor: who: `key:` and a key's id, `jwt:` and a subject, `cli:` and an account, `anonymous`.
        method: what: a method as on the wire, or a command.
        tenant_id: the tenant that it concerned.
        target: what it was done to; users' ids as keyed hashes.
        code: name of the status that it ended with.
        peer: from where.
        request_id: that of the call.
    """

    actor: str
    method: str
    tenant_id: str
    target: str
    code: str
    peer: str
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An event as it is kept; `event_id` orders events, `entry` is as it was written."""

    event_id: int
    occurred_at: datetime
    entry: AuditEntry


class AuditStore:
    """The table audit_events.

    Args:
        service: connections whose role may insert, and nothing else.
        maintenance: connections that may read.
    """

    def __init__(self, service: Database, maintenance: Database) -> None:
        self._service = service
        self._maintenance = maintenance

    async def append(self, entry: AuditEntry) -> None:
        """Writes an event; it is durable when this returns."""
        async with self._service.connection(entry.tenant_id) as connection:
            await connection.execute(
                _SQL["append_audit_event"],
                entry.actor,
                entry.method,
                entry.tenant_id,
                entry.target,
                entry.code,
                entry.peer,
                entry.request_id,
            )

    async def is_there(self) -> bool:
        """Whether the schema has an audit yet; of interest to what changes the schema."""
        async with self._maintenance.connection(None) as connection:
            return bool(await connection.fetchval(_SQL["audit_is_there"]))

    async def page(self, tenant_id: str | None, before: int | None, limit: int) -> list[AuditEvent]:
        """Events of a tenant (None: all), the newest first, older than one (None: all)."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["list_audit_events"], tenant_id, before, limit)
        return [
            AuditEvent(number, at, AuditEntry(*texts)) for number, at, *texts in map(tuple, rows)
        ]
