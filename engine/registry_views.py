"""What the registry takes and gives: drafts of models, and rows with what is known beside them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from storage.exceptions import InvalidArgument, NotFound
from storage.models import LATEST, ModelRow, Serving, VersionRow

VersionState = Literal["ready", "serving", "corrupt", "deleted"]

PROMOTIONS = ("if_not_worse", "always", "never")
KEEP_VERSIONS = (1, 100)
RETENTION_DAYS = (1, 3650)
DEFAULT_KEEP = 5
DEFAULT_RETENTION_DAYS = 90

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VERSION = re.compile(r"[\x21-\x7e]{1,50}")


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """A model to make or change; None is what the caller did not set."""

    name: str
    algorithm: str | None = None
    hyperparameters: Mapping[str, Any] | None = None
    schedule: str | None = None
    promotion: str | None = None
    keep_versions: int | None = None
    retention_days: int | None = None


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model, its newest active version and the one that serves; "" where there is none."""

    row: ModelRow
    latest_version: str
    serving_version: str


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version and whether it can serve."""

    row: VersionRow
    state: VersionState

    @classmethod
    def of(cls, row: VersionRow, serving: Serving | None) -> "VersionView":
        """The view of a row beside what serves now."""
        if not row.is_active:
            return cls(row, "deleted")
        if row.problem:
            return cls(row, "corrupt")
        return cls(row, "serving" if is_serving(row, serving) else "ready")


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """A model with its version that serves and its newest active one, where there are such."""

    model: ModelView
    serving: VersionView | None
    latest: VersionView | None


@dataclass(frozen=True, slots=True)
class Promoted:
    """What serves now, and name@version of what served before; "" for nothing."""

    version: VersionView
    previous: str


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """Versions that are gone, as name@version; how many files went, and their bytes."""

    removed: list[str]
    artefacts_removed: int
    bytes_freed: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A version with a metric and the bounds of its interval; None: not measured."""

    version: VersionView
    value: float | None
    low: float | None
    high: float | None


def is_serving(row: VersionRow, serving: Serving | None) -> bool:
    """Whether a version is the one that serves."""
    return serving is not None and label_of(serving) == label_of(row)


def label_of(version: VersionRow | Serving) -> str:
    """name@version."""
    return f"{version.model_name}@{version.version}"


def check_name(value: str, field: str = "name") -> str:
    """A model's name; InvalidArgument when malformed."""
    if not _NAME.fullmatch(value):
        raise InvalidArgument.field(
            field, 'must be a letter or digit, then up to 62 letters, digits, ".", "_" or "-"'
        )
    return value


def check_version(name: str, version: str) -> str:
    """A version's name, "latest" for none; NotFound for what can be none."""
    if version and not _VERSION.fullmatch(version):
        raise NotFound(
            f"The model {name!r} has no version of such a name.", reason="VERSION_NOT_FOUND"
        )
    return version or LATEST


def check_label(label: str, field: str) -> tuple[str, str]:
    """Model and version of a name@version; InvalidArgument when it is none."""
    name, _, version = label.partition("@")
    if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
        raise InvalidArgument.field(field, f"{label[:100]!r} must be name@version")
    return name, version


def check_promotion(value: str, field: str = "model.promotion") -> str:
    """What happens to a new version."""
    if value not in PROMOTIONS:
        raise InvalidArgument.field(field, f"must be one of {', '.join(PROMOTIONS)}")
    return value


def check_keep(value: int, field: str = "model.keep_versions") -> int:
    """How many versions a clean-up keeps."""
    return _within(value, KEEP_VERSIONS, field)


def check_retention(value: int, field: str = "model.retention_days") -> int:
    """The age in days at which a clean-up removes a version."""
    return _within(value, RETENTION_DAYS, field)


def _within(value: int, limits: tuple[int, int], field: str) -> int:
    low, high = limits
    if not low <= value <= high:
        raise InvalidArgument.field(field, f"must lie within {low} and {high:,}")
    return value
