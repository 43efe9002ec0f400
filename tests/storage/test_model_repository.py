"""Every verb of the model repository, by its name."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from storage.artefacts import FileArtefactStore
from storage.database import Database
from storage.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from storage.model_repository import PostgresModelRepository
from storage.models import ModelStore
from storage.tenants import TenantSettings, TenantStore

VERBS = """
save_model load_model get_model_versions delete_model cleanup_old_models
save_embeddings batch_save_embeddings get_embeddings get_all_embeddings get_embeddings_stats
cache_predictions get_cached_predictions clear_cache get_cache_statistics
save_training_metrics get_training_metrics
get_model_storage_stats get_performance_metrics optimize_database health_check
"""

OpenRepository = Callable[[str], Awaitable[PostgresModelRepository]]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of a busy machine is no fault of PostgreSQL."""
    monkeypatch.setattr("storage.database._HEALTH_TIMEOUT_SECS", 30)
    monkeypatch.setattr("storage.model_health._SLOW_SECS", 30)


@pytest.fixture
def artefacts(tmp_path: Path) -> FileArtefactStore:
    return FileArtefactStore(tmp_path / "models")


@pytest.fixture
def open_repository(
    tenants: TenantStore,
    database: Database,
    maintenance_database: Database,
    owner_database: Database,
    artefacts: FileArtefactStore,
) -> OpenRepository:
    """A function that makes a tenant and its repository."""

    async def make(tenant_id: str) -> PostgresModelRepository:
        tenant = await tenants.create(tenant_id)
        return PostgresModelRepository(
            tenant, database, maintenance_database, artefacts, owner=owner_database
        )

    return make


@pytest.fixture
async def repo(open_repository: OpenRepository) -> PostgresModelRepository:
    return await open_repository("shop")


def test_repository_has_every_verb() -> None:
    assert [v for v in VERBS.split() if not hasattr(PostgresModelRepository, v)] == []


def test_every_verb_is_called_in_these_tests() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [v for v in VERBS.split() if not re.search(rf"repo\.{v}\(", text)] == []


async def test_save_model_and_load_model(
    repo: PostgresModelRepository, artefacts: FileArtefactStore
) -> None:
    first = await repo.save_model("recommendation_model", b"one", "1.0", {"algorithm": "als"})
    second = await repo.save_model("recommendation_model", b"two", manifest={"layout": 1})
    assert (first.version, first.metadata) == ("1.0", {"algorithm": "als"})
    assert second.version == "1"
    assert second.manifest == {
        "layout": 1,
        "content_hash": second.content_hash,
        "size_bytes": 3,
    }
    assert await repo.load_model("recommendation_model", "1.0") == b"one"
    assert await repo.load_model("recommendation_model", "latest") == b"two"
    assert artefacts.hashes() == sorted([first.content_hash, second.content_hash])
    with pytest.raises(AlreadyExists):
        await repo.save_model("recommendation_model", b"three", "1.0")
    with pytest.raises(NotFound):
        await repo.load_model("recommendation_model", "2.0")
    with pytest.raises(NotFound):
        await repo.load_model("nothing")


@pytest.mark.parametrize("damage", ["altered", "cut", "missing"])
async def test_load_model_refuses_a_damaged_artefact(
    repo: PostgresModelRepository, artefacts: FileArtefactStore, damage: str
) -> None:
    row = await repo.save_model("m", b"content")
    path = artefacts.path(row.content_hash)
    if damage == "altered":
        path.write_bytes(b"Content")
    elif damage == "cut":
        path.write_bytes(b"conten")
    else:
        path.unlink()
    with pytest.raises(FailedPrecondition) as caught:
        await repo.load_model("m")
    assert caught.value.reason == "ARTEFACT_CORRUPT"
    await repo.save_model("m", b"content", "again")
    assert await repo.load_model("m", "1") == b"content"


async def test_get_model_versions_and_delete_model(repo: PostgresModelRepository) -> None:
    for content in (b"1", b"2", b"3"):
        await repo.save_model("m", content)
    await repo.delete_model("m", "2")
    assert [row.version for row in await repo.get_model_versions("m")] == ["3", "1"]
    await repo.delete_model("m")
    assert await repo.get_model_versions("m") == []
    with pytest.raises(NotFound):
        await repo.delete_model("m")
    assert (await repo.save_model("m", b"4")).version == "4"


async def test_cleanup_old_models_keeps_the_newest_and_what_serves(
    repo: PostgresModelRepository,
    tenants: TenantStore,
    database: Database,
    maintenance_database: Database,
) -> None:
    for content in (b"1", b"2", b"3", b"4"):
        await repo.save_model("m", content)
    await ModelStore(database).promote(await tenants.get("shop"), "m", "1", "test")
    async with maintenance_database.connection(None) as connection:
        await connection.execute("UPDATE ml_models SET created_at = created_at - interval '1 year'")
    assert await repo.cleanup_old_models("m", keep_versions=2) == 1
    assert [row.version for row in await repo.get_model_versions("m")] == ["4", "3", "1"]
    assert await repo.load_model("m", "1") == b"1"
    assert await repo.cleanup_old_models("m", keep_versions=2) == 0


async def test_embeddings_verbs(repo: PostgresModelRepository) -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert await repo.save_embeddings("user", "user123", values)
    found = await repo.get_embeddings("user", "user123")
    assert found is not None
    assert found.tobytes() == values.astype(np.float32).tobytes()
    assert await repo.get_embeddings("user", "nobody") is None
    with pytest.raises(InvalidArgument):
        await repo.batch_save_embeddings([("user", "user1", [0.1, 0.2])])
    batch = [(("user"), f"user{n}", np.full(3, n)) for n in range(1_203)]
    saved = await repo.batch_save_embeddings([*batch, ("property", "prop1", [0.7])], version="2")
    assert saved == 1_204
    everything = await repo.get_all_embeddings("user")
    assert len(everything) == 1_203
    assert everything["user7"].tolist() == [7, 7, 7]
    assert set(await repo.get_all_embeddings("user", "1")) == {"user123"}
    stats = await repo.get_embeddings_stats()
    assert [(s.entity_type, s.version, s.embedding_count) for s in stats] == [
        ("property", "2", 1),
        ("user", "1", 1),
        ("user", "2", 1_203),
    ]


async def test_prediction_cache_verbs(repo: PostgresModelRepository) -> None:
    predictions = {"recommendations": [1, 2, 3], "scores": [0.9, 0.8, 0.7]}
    for user in ("user123", "user456"):
        assert await repo.cache_predictions(
            f"{user}_recommendations", predictions, ttl_seconds=3600, metadata={"model": "m"}
        )
    assert await repo.get_cached_predictions("user123_recommendations") == predictions
    assert await repo.get_cached_predictions("nobody") is None
    statistics = await repo.get_cache_statistics()
    assert (statistics.entries, statistics.accesses) == (2, 1)
    assert await repo.clear_cache("user123_*") == 1
    assert await repo.clear_cache("*") == 1
    assert (await repo.get_cache_statistics()).entries == 0


async def test_training_metrics_verbs(repo: PostgresModelRepository) -> None:
    await repo.save_model("m", b"1", "1.0")
    metrics = {"accuracy": 0.95, "loss": 0.05}
    assert await repo.save_training_metrics("m", "1.0", metrics)
    assert await repo.get_training_metrics("m", "1.0") == metrics
    assert await repo.get_training_metrics("m") == metrics
    assert await repo.get_training_metrics("n") is None
    with pytest.raises(InvalidArgument, match="loss"):
        await repo.save_training_metrics("m", "1.0", {"loss": float("nan")})


async def test_get_model_storage_stats(repo: PostgresModelRepository) -> None:
    await repo.save_model("m", b"12345")
    await repo.save_model("m", b"123")
    (stats,) = await repo.get_model_storage_stats()
    assert (stats.model_name, stats.versions, stats.size_bytes) == ("m", 2, 8)


async def test_get_performance_metrics_counts_and_times_each_verb(
    repo: PostgresModelRepository,
) -> None:
    await repo.save_model("m", b"1")
    await repo.load_model("m")
    with pytest.raises(NotFound):
        await repo.load_model("m", "2")
    timings = {t.query_type: t for t in await repo.get_performance_metrics()}
    assert {name: (t.count, t.errors) for name, t in timings.items()} == {
        "load_model": (2, 1),
        "save_model": (1, 0),
    }
    assert all(0 < t.execution_time <= t.slowest < 60 for t in timings.values())


async def test_optimize_database_needs_the_owner(
    repo: PostgresModelRepository,
    tenants: TenantStore,
    database: Database,
    maintenance_database: Database,
    artefacts: FileArtefactStore,
) -> None:
    await repo.save_model("m", b"1")
    assert await repo.optimize_database() > 0
    async with maintenance_database.connection(None) as connection:
        analysed = await connection.fetchval(
            "SELECT reltuples FROM pg_class WHERE relname = 'ml_models'"
        )
    assert analysed == 1
    without = PostgresModelRepository(
        await tenants.get("shop"), database, maintenance_database, artefacts
    )
    with pytest.raises(FailedPrecondition):
        await without.optimize_database()


async def test_health_check_names_what_is_wrong(
    repo: PostgresModelRepository, owner_database: Database, tmp_path: Path
) -> None:
    health = await repo.health_check()
    assert health.status == "healthy"
    assert set(health.checks) == {"connectivity", "tables", "query_time", "artefacts"}
    for folder in (tmp_path / "models").iterdir():
        folder.rmdir()
    (tmp_path / "models" / "temporary").write_bytes(b"in the way")
    health = await repo.health_check()
    assert (health.status, health.checks["tables"]) == ("unhealthy", "ok")
    assert health.checks["artefacts"].startswith("cannot be written")


async def test_health_check_of_a_closed_database(
    repo: PostgresModelRepository, database: Database
) -> None:
    await database.close()
    health = await repo.health_check()
    assert health.status == "unhealthy"
    assert health.checks["connectivity"] == "no answer"
    assert health.checks["tables"] != "ok"
    with pytest.raises((FailedPrecondition, Unavailable)):
        await repo.get_model_storage_stats()


async def test_tenant_whose_row_has_changed_is_read_again(
    repo: PostgresModelRepository, tenants: TenantStore
) -> None:
    await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    await repo.save_model("m", b"1")
    await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    assert await repo.load_model("m") == b"1"
    await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    assert (await repo.health_check()).status == "healthy"
    await tenants.begin_erasure("shop")
    with pytest.raises(NotFound) as caught:
        await repo.load_model("m")
    assert caught.value.reason == "TENANT_NOT_FOUND"
    assert (await repo.health_check()).status == "unhealthy"


async def test_tenants_never_see_each_others(
    repo: PostgresModelRepository, open_repository: OpenRepository
) -> None:
    other = await open_repository("other")
    await repo.save_model("m", b"shop", "1.0")
    await repo.save_embeddings("item", "a", [1.0])
    await repo.cache_predictions("k", [1])
    await repo.save_training_metrics("m", "1.0", {"a": 1})
    assert await other.get_model_versions("m") == []
    assert await other.get_all_embeddings("item") == {}
    assert await other.get_cached_predictions("k") is None
    assert await other.get_training_metrics("m") is None
    assert await other.get_model_storage_stats() == []
    assert await other.cleanup_old_models("m", 1) == 0
    with pytest.raises(NotFound):
        await other.load_model("m", "1.0")
    await other.save_model("m", b"other", "1.0")
    assert await repo.load_model("m", "1.0") == b"shop"
