"""How well tenants' HNSW indexes find what exact search finds, and what is done about it."""

from dataclasses import dataclass

from storage.database import Database
from storage.placements import STEP_TIMEOUT_SECS
from storage.queries import index_rebuild, load
from storage.sessions import changed
from storage.tenants import Tenant

_SQL = load("index_quality")
_REBUILD = load("index_rebuild")
_ENTITIES = load("entities")

_MEASURE_TIMEOUT_SECS = 1800.0


@dataclass(frozen=True, slots=True)
class IndexQuality:
    """One measurement.

    Attributes:
        recall: the share of the true nearest 20 that searches of the index found, 0 to 1.
        sampled_queries: for how many vectors was searched.
        ef_search: how widely.
    """

    recall: float
    sampled_queries: int
    ef_search: int


class IndexQualityStore:
    """The table index_quality, and the indexes of tenants with a placement of their own.

    Args:
        owner: connections of the schema's owner, who may rebuild indexes.
        maintenance: connections that see all tenants.
    """

    def __init__(self, owner: Database, maintenance: Database) -> None:
        self._owner = owner
        self._maintenance = maintenance

    async def measure(
        self, tenant: Tenant, ef_search: int, queries: int, seed: int
    ) -> IndexQuality | None:
        """Searches for some of a tenant's vectors, by the index and exactly.

        Args:
            seed: measurements with the same seed search for the same vectors.

        Returns:
            None where the tenant has no vectors.
        """
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(
                _SQL["measure_recall"],
                tenant.tenant_id,
                tenant.placement,
                tenant.dimension,
                ef_search,
                queries,
                seed,
                timeout=_MEASURE_TIMEOUT_SECS,
            )
        assert row is not None
        if row["recall"] is None:
            return None
        return IndexQuality(row["recall"], row["sampled_queries"], ef_search)

    async def record(self, tenant: Tenant, quality: IndexQuality) -> None:
        """Keeps a measurement, and has the tenant's index searched as widely as it says.

        Raises:
            StaleTenant: the tenant's row has changed; nothing was kept.
        """
        async with self._maintenance.transaction(None) as connection:
            await connection.execute(
                _ENTITIES["guard_write"], tenant.tenant_id, tenant.tenant_no, tenant.version
            )
            await connection.execute(
                _SQL["record_quality"],
                tenant.tenant_id,
                quality.recall,
                quality.sampled_queries,
                quality.ef_search,
            )
            changed(connection, tenant.tenant_id)
            await connection.execute(_SQL["set_ef_search"], tenant.tenant_id, quality.ef_search)

    async def recalls(self) -> list[float]:
        """The recalls of all tenants' indexes, as last measured."""
        async with self._maintenance.connection(None) as connection:
            return [row["recall"] for row in await connection.fetch(_SQL["list_recalls"])]

    async def order_rebuild(self, tenant_id: str, pause_secs: float) -> bool:
        """Notes that a measured index is to be built anew; False where it was ordered lately."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(_SQL["order_rebuild"], tenant_id, pause_secs)
        return row is not None

    async def rebuild(self, placement: int) -> None:
        """Builds a placement's index anew, while it is searched and written.

        What an interrupted rebuild left is removed first.
        """
        async with self._owner.connection(None) as connection:
            await connection.execute(_REBUILD["build_serially"], placement)
            try:
                for name in ("drop_leftover", "rebuild"):
                    await connection.execute(
                        index_rebuild(placement)[name], timeout=STEP_TIMEOUT_SECS
                    )
            finally:
                await connection.execute(_REBUILD["build_as_configured"])
