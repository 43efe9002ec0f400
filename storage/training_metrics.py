"""Metrics of trainings: kept for every version, also when the version is gone."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from typing import Any

import orjson

from storage.database import Database
from storage.exceptions import InvalidArgument
from storage.promotions import guard, no_version
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("training_metrics")

LATEST = "latest"
MAX_METRICS = 1_000
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """What was measured of a version, such as {"ndcg@20": 0.31}."""

    model_name: str
    version: str
    metrics: dict[str, float]
    training_date: datetime


class TrainingMetricsStore:
    """The training_metrics table, for one tenant a call.

    Every method raises StaleTenant when the tenant's row has changed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save_training_metrics(
        self,
        tenant: Tenant,
        model_name: str,
        version: str,
        metrics: Mapping[str, float],
        training_date: datetime | None = None,
    ) -> TrainingMetrics:
        """Keeps metrics of a version, beside those that were kept before.

        Args:
            metrics: up to 1,000 finite numbers by names of 1 to 100 characters.
            training_date: when they were measured; None: now.

        Raises:
            InvalidArgument: names the metric at fault.
            NotFound: there is no such version (VERSION_NOT_FOUND).
        """
        stored = orjson.dumps(_checked(metrics)).decode()
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["save_metrics"], *guard(tenant), model_name, version, stored, training_date
            )
        if row is None:
            raise no_version(model_name, version)
        return _metrics(row)

    async def get_training_metrics(
        self, tenant: Tenant, model_name: str, version: str = LATEST
    ) -> TrainingMetrics | None:
        """The newest metrics of a version, or of the model ("latest"); None when there are none."""
        found = await self.history(
            tenant, model_name, None if version == LATEST else version, limit=1
        )
        return found[0] if found else None

    async def history(
        self, tenant: Tenant, model_name: str, version: str | None = None, *, limit: int = 100
    ) -> list[TrainingMetrics]:
        """Metrics of a model, or of one of its versions, newest first."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["metrics_history"],
                tenant.tenant_id,
                tenant.version,
                model_name,
                version,
                limit,
            )
        return [_metrics(row) for row in rows]


def _metrics(row: Any) -> TrainingMetrics:
    return TrainingMetrics(
        row["model_name"], row["version"], orjson.loads(row["metrics"]), row["training_date"]
    )


def _checked(metrics: Mapping[str, float]) -> dict[str, float]:
    if len(metrics) > MAX_METRICS:
        raise InvalidArgument.field("metrics", f"are {len(metrics)}, more than {MAX_METRICS}")
    checked: dict[str, float] = {}
    for name, value in metrics.items():
        if not 1 <= len(name) <= _MAX_NAME:
            raise InvalidArgument.field(
                f"metrics[{name[:_MAX_NAME]}]", f"needs a name of 1 to {_MAX_NAME} characters"
            )
        checked[name] = _finite(name, value)
    return checked


def _finite(name: str, value: object) -> float:
    # NumPy's numbers are Real too; a truth value is one by accident.
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise InvalidArgument.field(f"metrics[{name}]", "must be a finite number")
