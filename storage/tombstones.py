"""Whether users whose data would be written were erased."""

from collections.abc import Sequence

from storage.database import Connection
from storage.queries import load

_SQL = load("erasure")


async def erased_among(
    connection: Connection, tenant_id: str, hashes: Sequence[bytes]
) -> frozenset[bytes]:
    """Those of some hashes that belong to refused users.

    To be asked after the guard, in a statement of its own: its snapshot is then later than what the
    guard's lock waited for.
    """
    if not hashes:
        return frozenset()
    rows = await connection.fetch(_SQL["erased_among"], tenant_id, list(hashes))
    return frozenset(row["user_hash"] for row in rows)


async def merge_is_refused(
    connection: Connection, tenant_id: str, hashes: Sequence[bytes], source: str
) -> bool:
    """Whether a user's interactions may not become another's: one of the two was erased."""
    return bool(
        await connection.fetchval(_SQL["merge_is_refused"], tenant_id, list(hashes), source)
    )
