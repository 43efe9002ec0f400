"""Whether the models' tables and files can be used now."""

import asyncio
import time
from dataclasses import dataclass

from storage.artefacts import ArtefactStore
from storage.database import Database
from storage.exceptions import PenchantError, StaleTenant
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("model_health")

_SLOW_SECS = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a check found.

    Attributes:
        status: healthy, degraded (slow) or unhealthy.
        checks: "ok" or what is wrong, by the name of the check: connectivity, tables, query_time,
            artefacts.
    """

    status: str
    checks: dict[str, str]


async def check_health(tenant: Tenant, database: Database, artefacts: ArtefactStore) -> Health:
    """Asks PostgreSQL, looks into every table as the tenant and writes an empty file.

    Raises:
        StaleTenant: the tenant's row has changed.
    """
    checks = {"connectivity": "ok" if await database.health_check() else "no answer"}
    began = time.perf_counter()
    checks["tables"] = await _table_access(tenant, database)
    secs = time.perf_counter() - began
    checks["query_time"] = "ok" if secs <= _SLOW_SECS else f"slow: {secs:.1f} s"
    checks["artefacts"] = await asyncio.to_thread(_writable, artefacts)
    bad = {name for name, found in checks.items() if found != "ok"}
    status = "unhealthy" if bad - {"query_time"} else "degraded" if bad else "healthy"
    return Health(status, checks)


async def _table_access(tenant: Tenant, database: Database) -> str:
    try:
        async with database.connection(tenant.tenant_id) as connection:
            await connection.execute(_SQL["touch_tables"], tenant.tenant_id, tenant.version)
    except StaleTenant:
        raise
    except PenchantError as error:
        return error.message
    return "ok"


def _writable(artefacts: ArtefactStore) -> str:
    try:
        path = artefacts.temporary()
        path.write_bytes(b"")
        path.unlink()
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return "ok"
