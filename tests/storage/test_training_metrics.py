"""Training metrics: finite numbers, kept for every version."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from storage.database import Database
from storage.exceptions import InvalidArgument, NotFound, StaleTenant
from storage.models import ModelStore
from storage.tenants import Tenant, TenantSettings, TenantStore
from storage.training_metrics import TrainingMetricsStore


@pytest.fixture
async def shop(shop: Tenant, database: Database) -> Tenant:
    """A tenant with versions 1 and 2 of the model m."""
    await add_versions(database, shop)
    return shop


@pytest.fixture
def store(database: Database) -> TrainingMetricsStore:
    return TrainingMetricsStore(database)


async def add_versions(database: Database, tenant: Tenant) -> None:
    models = ModelStore(database)
    await models.create(tenant, "m", algorithm="als")
    for _ in range(2):
        await models.add_version(
            tenant, "m", manifest={}, metadata={}, content_hash="x", size_bytes=1
        )


async def test_newest_metrics_and_their_history(store: TrainingMetricsStore, shop: Tenant) -> None:
    first = await store.save_training_metrics(
        shop, "m", "1", {"ndcg@20": 0.25, "users": 3, "loss": np.float32(0.5)}
    )
    await store.save_training_metrics(shop, "m", "1", {"ndcg@20": 0.5})
    await store.save_training_metrics(shop, "m", "2", {"ndcg@20": 0.75})
    assert first.metrics == {"ndcg@20": 0.25, "users": 3.0, "loss": 0.5}
    newest = await store.get_training_metrics(shop, "m", "1")
    latest = await store.get_training_metrics(shop, "m")
    assert newest is not None
    assert newest.metrics == {"ndcg@20": 0.5}
    assert latest is not None
    assert (latest.version, latest.metrics) == ("2", {"ndcg@20": 0.75})
    history = await store.history(shop, "m")
    assert [(h.version, h.metrics["ndcg@20"]) for h in history] == [
        ("2", 0.75),
        ("1", 0.5),
        ("1", 0.25),
    ]
    assert await store.history(shop, "m", "1") == history[1:]
    assert len(await store.history(shop, "m", limit=1)) == 1
    assert await store.get_training_metrics(shop, "m", "3") is None


async def test_metrics_of_another_day_are_ordered_by_it(
    store: TrainingMetricsStore, shop: Tenant
) -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC)
    await store.save_training_metrics(shop, "m", "2", {"a": 2})
    saved = await store.save_training_metrics(shop, "m", "1", {"a": 1}, day)
    assert saved.training_date == day
    assert [h.version for h in await store.history(shop, "m")] == ["2", "1"]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, True, "0.5", None, [0.5], Decimal("0.5"), 10**400, 1j],
    ids=str,
)
async def test_metric_that_is_no_finite_number_is_named(
    store: TrainingMetricsStore, shop: Tenant, value: object
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await store.save_training_metrics(shop, "m", "1", {"fine": 1.0, "loss": value})
    assert [v.field for v in caught.value.violations] == ["metrics[loss]"]
    assert await store.history(shop, "m") == []


@pytest.mark.parametrize(
    "metrics",
    [{"": 1.0}, {"x" * 101: 1.0}, {str(n): 1.0 for n in range(1001)}],
    ids=["no name", "long name", "too many"],
)
async def test_metrics_beyond_the_limits_are_refused(
    store: TrainingMetricsStore, shop: Tenant, metrics: dict[str, float]
) -> None:
    with pytest.raises(InvalidArgument, match="metrics"):
        await store.save_training_metrics(shop, "m", "1", metrics)


@pytest.mark.parametrize(("model", "version"), [("m", "3"), ("n", "1")])
async def test_metrics_of_a_version_that_is_not_there_are_refused(
    store: TrainingMetricsStore, shop: Tenant, model: str, version: str
) -> None:
    with pytest.raises(NotFound) as caught:
        await store.save_training_metrics(shop, model, version, {"a": 1})
    assert caught.value.reason == "VERSION_NOT_FOUND"


async def test_history_outlives_the_version(
    store: TrainingMetricsStore, shop: Tenant, database: Database
) -> None:
    await store.save_training_metrics(shop, "m", "1", {"a": 1})
    assert len(await ModelStore(database).clean_up(shop, "m", keep=1)) == 1
    assert len(await store.history(shop, "m")) == 1


async def test_tenants_never_see_each_others_metrics(
    store: TrainingMetricsStore, tenants: TenantStore, shop: Tenant, database: Database
) -> None:
    other = await tenants.create("other")
    await store.save_training_metrics(shop, "m", "1", {"a": 1})
    assert await store.history(other, "m") == []
    with pytest.raises(NotFound):
        await store.save_training_metrics(other, "m", "1", {"a": 2})
    await add_versions(database, other)
    await store.save_training_metrics(other, "m", "1", {"a": 2})
    assert [h.metrics for h in await store.history(shop, "m")] == [{"a": 1}]


async def test_old_tenant_row_is_stale(
    store: TrainingMetricsStore, tenants: TenantStore, shop: Tenant
) -> None:
    await tenants.update("shop", display_name="Shop", settings=TenantSettings())
    for work in (
        store.save_training_metrics(shop, "m", "1", {}),
        store.get_training_metrics(shop, "m"),
        store.history(shop, "m"),
    ):
        with pytest.raises(StaleTenant):
            await work
