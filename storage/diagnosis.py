"""Facts about a PostgreSQL server that `penchant doctor` reports."""

import uuid
from dataclasses import dataclass

from storage.config import DatabaseConfig
from storage.driver_errors import connect_error, translated
from storage.exceptions import FailedPrecondition
from storage.hosts import Hosts
from storage.queries import load

_SQL = load("diagnosis")
_PROBES = 5


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What a server is.

    Attributes:
        pgvector: the installed version, else the one on offer; None for neither.
        keeps_sessions: a session's setting is still there in the next statement (a
            transaction-pooling proxy would lose it).
    """

    server_version: str
    pgvector: tuple[int, ...] | None
    keeps_sessions: bool


async def diagnose_database(config: DatabaseConfig) -> DatabaseFacts:
    """Connects once and looks.

    Raises:
        FailedPrecondition: no URL, or the server refuses. Unavailable: it does not answer.
    """
    if config.url is None:
        raise FailedPrecondition("DATABASE_URL is not set.", reason="DATABASE_URL_MISSING")
    with translated(connect_error):
        connection = await Hosts(config.url.get_secret_value()).connect(
            timeout=config.connect_timeout_secs
        )
        try:
            row = await connection.fetchrow(_SQL["server_facts"])
            assert row is not None
            marker = uuid.uuid4().hex
            await connection.execute(_SQL["mark_session"], marker)
            seen = [await connection.fetchval(_SQL["read_mark"]) for _ in range(_PROBES)]
        finally:
            await connection.close()
    version = row["pgvector"]
    return DatabaseFacts(
        row["server_version"],
        None if version is None else tuple(int(part) for part in version.split(".")),
        all(value == marker for value in seen),
    )
