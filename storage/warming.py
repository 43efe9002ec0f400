"""Vector indexes brought into PostgreSQL's memory before anybody asks for them."""

from dataclasses import dataclass

from storage.database import Database
from storage.queries import load

_SQL = load("warming")

_SEARCHES = 200
_TIMEOUT_SECS = 600.0


@dataclass(frozen=True, slots=True)
class UsedIndex:
    """A tenant's vector index, and how it is searched."""

    tenant_id: str
    placement: int
    dimension: int
    ef_search: int


class WarmingStore:
    """Warms indexes by searching them: it needs no extension and no right but to read.

    Args:
        maintenance: connections that see all tenants.
    """

    def __init__(self, maintenance: Database) -> None:
        self._maintenance = maintenance

    async def indexes_in_use(self) -> list[UsedIndex]:
        """The most used first, no more than PostgreSQL's buffers hold."""
        async with self._maintenance.connection(None) as connection:
            return [UsedIndex(**row) for row in await connection.fetch(_SQL["indexes_in_use"])]

    async def warm(self, index: UsedIndex, searches: int = _SEARCHES) -> int:
        """Searches an index as answers do; returns how often."""
        async with self._maintenance.connection(None) as connection:
            return int(
                await connection.fetchval(
                    _SQL["warm_placement"],
                    index.tenant_id,
                    index.placement,
                    index.dimension,
                    index.ef_search,
                    searches,
                    timeout=_TIMEOUT_SECS,
                )
            )
