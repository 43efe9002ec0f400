"""What the models' tables and files hold is erased with the tenant."""

from pathlib import Path

import pytest

from storage.artefacts import FileArtefactStore, Swept, sweep
from storage.database import Database
from storage.exceptions import StaleTenant
from storage.model_repository import PostgresModelRepository
from storage.models import ModelStore
from storage.retention import RetentionStore
from storage.tenants import Tenant, TenantStore

TABLES = [
    "embeddings",
    "ml_models",
    "model_promotions",
    "models",
    "operations",
    "prediction_cache",
    "training_metrics",
]


async def fill(repo: PostgresModelRepository, database: Database, tenant: Tenant) -> None:
    await repo.save_model("m", tenant.tenant_id.encode(), "1.0")
    await ModelStore(database).promote(tenant, "m", "1.0", "test")
    await repo.save_training_metrics("m", "1.0", {"a": 1.0})
    await repo.save_embeddings("item", "a", [1.0])
    await repo.cache_predictions("k", [])
    async with database.connection(tenant.tenant_id) as connection:
        await connection.execute(
            "INSERT INTO operations (tenant_id, kind, target) VALUES ($1, 'train', 'm')",
            tenant.tenant_id,
        )


async def counts(maintenance: Database, tenant_id: str) -> dict[str, int]:
    async with maintenance.connection(None) as connection:
        return {
            table: await connection.fetchval(
                f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant_id
            )
            for table in TABLES
        }


async def test_erasure_takes_rows_and_files_of_the_tenant_alone(
    database: Database, maintenance_database: Database, owner_database: Database, tmp_path: Path
) -> None:
    tenants = TenantStore(database, maintenance_database)
    artefacts = FileArtefactStore(tmp_path / "models")
    models = ModelStore(database, maintenance_database)
    made = {}
    for tenant_id in ("shop", "other"):
        made[tenant_id] = await tenants.create(tenant_id)
        repo = PostgresModelRepository(made[tenant_id], database, maintenance_database, artefacts)
        await fill(repo, database, made[tenant_id])
    assert await counts(maintenance_database, "shop") == dict.fromkeys(TABLES, 1)

    await tenants.begin_erasure("shop")
    with pytest.raises(StaleTenant):
        await models.create(made["shop"], "late", algorithm="als")
    await RetentionStore(owner_database, maintenance_database).erase("shop")

    assert await counts(maintenance_database, "shop") == dict.fromkeys(TABLES, 0)
    assert await counts(maintenance_database, "other") == dict.fromkeys(TABLES, 1)
    assert await sweep(artefacts, models.hashes_in_use) == Swept()
    assert await sweep(artefacts, models.hashes_in_use, young_secs=0) == Swept(1, len("shop"))
    kept = await models.version(made["other"], "m")
    assert artefacts.hashes() == [kept.content_hash]
