"""The rules for what callers send: ids, sizes, times, weights.

Every check returns the value it was given (or the one to use instead) and raises InvalidArgument
for `field`, a path as in the proto.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from storage.exceptions import InvalidArgument

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_ID_BYTES = 255
MAX_ATTRIBUTES_BYTES = 64 * 1024
MAX_ATTRIBUTES_DEPTH = 16
MAX_WEIGHT = 1e6
MAX_PAGE_SIZE = 1000
MAX_AHEAD = timedelta(days=1)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TENANT_ID = re.compile(r"[a-z0-9_-]{1,63}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_id(value: str, field: str) -> str:
    """An id: 1 to 255 bytes of UTF-8 without control characters (category Cc)."""
    if value.isascii() and value.isprintable() and 0 < len(value) <= MAX_ID_BYTES:
        return value  # as most are: the same rules, looked at in C
    if not value:
        raise InvalidArgument.field(field, "must not be empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidArgument.field(field, "holds half of a surrogate pair") from None
    if size > MAX_ID_BYTES:
        raise InvalidArgument.field(field, f"is {size} bytes long; at most {MAX_ID_BYTES}")
    if _CONTROL.search(value):
        raise InvalidArgument.field(field, "holds a control character")
    return value


def is_tenant_id(value: str) -> bool:
    """Whether a text could be a tenant's id."""
    return _TENANT_ID.fullmatch(value) is not None


def check_tenant_id(value: str, field: str = "tenant_id") -> str:
    """A tenant's id: 1 to 63 of a-z, 0-9, underscore and hyphen."""
    if not is_tenant_id(value):
        raise InvalidArgument.field(field, "must be 1 to 63 characters of a-z, 0-9, _ and -")
    return value


def check_attributes_size(encoded: bytes, field: str = "attributes") -> bytes:
    """Attributes as JSON: at most 64 KiB."""
    if len(encoded) > MAX_ATTRIBUTES_BYTES:
        raise InvalidArgument.field(
            field, f"is {len(encoded)} bytes of JSON; at most {MAX_ATTRIBUTES_BYTES}"
        )
    return encoded


def check_depth(
    value: Json, maximum: int = MAX_ATTRIBUTES_DEPTH, field: str = "attributes"
) -> Json:
    """Objects and lists nested at most `maximum` deep; `{}` is one deep, `{"a": []}` two."""
    level: list[Json] = [value]
    for depth in range(maximum + 1):
        containers = [item for item in level if isinstance(item, Mapping | list | tuple)]
        if not containers:
            return value
        if depth == maximum:
            raise InvalidArgument.field(field, f"is nested deeper than {maximum}")
        level = [
            child
            for item in containers
            for child in (item.values() if isinstance(item, Mapping) else item)
        ]
    return value


def check_timestamp(value: datetime, now: datetime, field: str) -> datetime:
    """A time with a zone, from 1970-01-01 to a day after `now`."""
    if value < _EPOCH:
        raise InvalidArgument.field(field, "lies before 1970-01-01")
    if value - now > MAX_AHEAD:
        raise InvalidArgument.field(field, "lies more than a day ahead")
    return value


def check_weight(value: float, field: str) -> float:
    """A finite weight of at most a million in size."""
    if not math.isfinite(value):
        raise InvalidArgument.field(field, "must be finite")
    if abs(value) > MAX_WEIGHT:
        raise InvalidArgument.field(
            field, f"must lie within -{MAX_WEIGHT:.0f} and {MAX_WEIGHT:.0f}"
        )
    return value


def check_page_size(
    value: int, default: int, maximum: int = MAX_PAGE_SIZE, field: str = "page_size"
) -> int:
    """The page size to use: `default` for 0, `maximum` for anything larger (AIP-158)."""
    if value < 0:
        raise InvalidArgument.field(field, "must not be negative")
    return min(value or default, maximum)
