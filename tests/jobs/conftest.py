"""A context for the jobs, and short words for filling tenants."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from jobs import due
from jobs.context import JobContext, job_context
from storage.config import DatabaseConfig, RedisCacheConfig
from storage.entities import EntityRow, EntityStore
from storage.interactions import InteractionRow
from storage.tenants import Tenant, TenantSettings

DIMENSION = 4
LONG_AGO = datetime(2021, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Settings:
    """JobSettings with short intervals."""

    database: DatabaseConfig
    data_dir: Path
    key_pepper: SecretStr | None = None
    signing_key_file: Path | None = None
    cache: RedisCacheConfig = field(default_factory=RedisCacheConfig)
    trending_interval_secs: float = 0.2
    profile_interval_secs: float = 0.2
    neighbours_interval_secs: float = 0.2
    placement_interval_secs: float = 0.2
    quota_interval_secs: float = 0.2
    index_quality_interval_secs: float = 0.2
    retention_interval_secs: float = 0.2
    own_placement_threshold: int = 100
    answer_log_days: int = 7
    audit_days: int = 365
    idempotency_window_days: int = 7
    operation_poll_secs: float = 0.05
    training_concurrency: int = 1
    training_threads: int = 1
    training_memory_mb: int = 0


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a test follow one another, though a busy machine made one of them long."""
    monkeypatch.setattr(due, "_UNPACED_SECS", 1e9)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(DatabaseConfig(url=database_url, connect_timeout_secs=5), tmp_path)


@pytest.fixture
async def context(settings: Settings) -> AsyncIterator[JobContext]:
    async with job_context(settings) as connected:
        yield connected


class Shop:
    """A tenant that is filled in words of one line."""

    def __init__(self, context: JobContext, tenant: Tenant) -> None:
        self.context = context
        self.tenant = tenant
        self.entities = EntityStore(context.service)
        self._ids = count()

    async def reread(self) -> Tenant:
        self.tenant = await self.context.tenants.get(self.tenant.tenant_id)
        return self.tenant

    async def put(
        self,
        entity_id: str,
        vector: list[float] | None = None,
        entity_type: str = "item",
        attributes: str = "{}",
    ) -> None:
        stored = None if vector is None else np.array(vector, np.float16)

        def change(present: EntityRow | None) -> EntityRow:
            row = present or EntityRow(entity_type, entity_id)
            return replace(row, attributes=attributes, feature_vector=stored)

        await self.entities.apply(self.tenant, {(entity_type, entity_id): change})

    async def event(
        self, user_id: str, entity_id: str, at: datetime | None = None, weight: float = 1.0
    ) -> None:
        row = InteractionRow(
            interaction_id=f"i{next(self._ids)}",
            user_id=user_id,
            entity_type="item",
            entity_id=entity_id,
            interaction_type="view",
            weight=weight,
            timestamp=at or datetime.now(UTC),
        )
        (outcome,) = await self.context.interactions.ingest(self.tenant, [row])
        assert outcome.status == "stored"

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        """What a query with the tenant as $1 returns, seen by maintenance."""
        async with self.context.maintenance.connection(None) as connection:
            return [tuple(r) for r in await connection.fetch(sql, self.tenant.tenant_id)]


@pytest.fixture
async def shop(context: JobContext) -> Shop:
    tenant = await context.tenants.create(
        "shop",
        dimension=DIMENSION,
        settings=TenantSettings(segment_attribute="country"),
    )
    return Shop(context, tenant)
