"""The check that comes before everything: is there a pgvector that is new enough?"""

import re

import structlog

from storage.driver_types import OwnConnection
from storage.exceptions import PgvectorMissing

OLDEST_SAFE = (0, 8, 2)
"""Older ones can be made to crash the server (CVE-2026-3172)."""
OLDEST_GOOD = (0, 8, 4)

_VERSIONS = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available,
    (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed
"""

_log = structlog.get_logger(__name__)


async def check_pgvector(connection: OwnConnection) -> None:
    """Looks for pgvector 0.8.2 or newer; below 0.8.4 it warns.

    Raises:
        PgvectorMissing: none, or an older one; the message names the remedy.
    """
    row = await connection.fetchrow(_VERSIONS)
    if row is None:
        raise PgvectorMissing
    package = f"postgresql-{row['major']}-pgvector"
    available, installed = row["available"], row["installed"]
    found = installed or available
    if found is None:
        raise PgvectorMissing(
            f"This PostgreSQL {row['major']} has no pgvector: install the package {package} "
            f"({_text(OLDEST_SAFE)} or newer) on its machine."
        )
    if _version(found) < OLDEST_SAFE:
        remedy = f"upgrade the package {package} on PostgreSQL's machine"
        if installed is not None:
            update = "run ALTER EXTENSION vector UPDATE in this database"
            enough = available is not None and _version(available) >= OLDEST_SAFE
            remedy = update if enough else f"{remedy}, then {update}"
        raise PgvectorMissing(
            f"pgvector {found} is too old, {_text(OLDEST_SAFE)} is needed: {remedy}."
        )
    if _version(found) < OLDEST_GOOD:
        _log.warning("pgvector_outdated", found=found, recommended=_text(OLDEST_GOOD))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
