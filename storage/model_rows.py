"""What the tables of models hold, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

import orjson


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A name under which versions are trained.

    Attributes:
        hyperparameters: as given; the algorithm fills in its defaults.
        schedule: cron expression in UTC; "" for none.
        next_run_at: when the schedule next starts a training.
        promotion: if_not_worse, always or never.
        keep_versions: how many of the newest versions a clean-up keeps, 1 to 100.
        retention_days: the age at which a clean-up removes a version, 1 to 3,650.
    """

    model_name: str
    algorithm: str
    hyperparameters: dict[str, Any]
    schedule: str
    next_run_at: datetime | None
    promotion: str
    keep_versions: int
    retention_days: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class ModelChanges(TypedDict, total=False):
    """The columns of a model that may change; those that are absent stay."""

    algorithm: str
    hyperparameters: Mapping[str, Any]
    schedule: str
    next_run_at: datetime | None
    promotion: str
    keep_versions: int
    retention_days: int


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A trained model.

    Attributes:
        manifest: of the artefact, as the artefact itself says.
        metadata: what is known of the training.
        is_active: False once it is deleted.
        content_hash: SHA-256 of the artefact, in hexadecimal.
        problem: why it cannot serve; "" when it can.
    """

    model_name: str
    version: str
    manifest: dict[str, Any]
    metadata: dict[str, Any]
    created_at: datetime
    is_active: bool
    content_hash: str
    size_bytes: int
    problem: str


@dataclass(frozen=True, slots=True)
class Serving:
    """The version that answers a tenant's Recommend since a promotion.

    Attributes:
        revision: grows with every promotion of the tenant; cached answers depend on it.
        version: "" when no model answers; content_hash is then "" and size_bytes 0.
    """

    revision: int
    model_name: str
    version: str
    content_hash: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PromotionRow:
    """A moment from which a version served; version "": none did."""

    revision: int
    model_name: str
    version: str
    reason: str
    promoted_at: datetime


@dataclass(frozen=True, slots=True)
class StorageStats:
    """What the versions of one model take up; artefacts that two versions share count twice."""

    model_name: str
    versions: int
    active_versions: int
    size_bytes: int
    oldest: datetime
    newest: datetime


def model_row(row: Any) -> ModelRow:
    """A row of `models`."""
    return ModelRow(
        model_name=row["model_name"],
        algorithm=row["algorithm"],
        hyperparameters=orjson.loads(row["hyperparameters"]),
        schedule=row["schedule"],
        next_run_at=row["next_run_at"],
        promotion=row["promotion"],
        keep_versions=row["keep_versions"],
        retention_days=row["retention_days"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )


def version_row(row: Any) -> VersionRow:
    """A row of `ml_models`."""
    return VersionRow(
        model_name=row["model_name"],
        version=row["version"],
        manifest=orjson.loads(row["model_data"]),
        metadata=orjson.loads(row["metadata"]),
        created_at=row["created_at"],
        is_active=row["is_active"],
        content_hash=row["content_hash"],
        size_bytes=row["size_bytes"],
        problem=row["problem"],
    )
