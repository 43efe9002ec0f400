"""Between protobuf's well-known types and plain Python values."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from engine.identifiers import MAX_ATTRIBUTES_DEPTH, Json
from storage.exceptions import InvalidArgument

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST_EXACT = 2**53
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799
_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


def struct_to_json(struct: Struct, field: str) -> dict[str, Json]:
    """A Struct as a dict; whole numbers become int, as JSON would have them.

    Raises:
        InvalidArgument: nested too deep, or a number that JSON does not have.
    """
    return {key: _value(value, field, 1) for key, value in struct.fields.items()}


def _value(value: Value, field: str, depth: int) -> Json:
    if depth > MAX_ATTRIBUTES_DEPTH:
        raise InvalidArgument.field(field, f"is nested deeper than {MAX_ATTRIBUTES_DEPTH}")
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            raise InvalidArgument.field(field, "holds NaN or infinity")
        return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else number
    if kind == "struct_value":
        return {k: _value(v, field, depth + 1) for k, v in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_value(v, field, depth + 1) for v in value.list_value.values]
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    return None


def json_to_struct(text: str, target: Struct, keys: frozenset[str] | None = None) -> None:
    """Fills a Struct from JSON text; `keys` names the top-level keys to keep (None: all)."""
    for key, value in orjson.loads(text).items():
        if keys is None or key in keys:
            _fill(target.fields[key], value)


def _fill(target: Value, value: Json) -> None:
    if value is None:
        target.null_value = 0  # type: ignore[assignment]  # the enum's only value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        for key, inner in value.items():
            _fill(target.struct_value.fields[key], inner)
    else:
        filled: ListValue = target.list_value
        filled.SetInParent()
        for inner in value:
            _fill(filled.values.add(), inner)


def to_datetime(timestamp: Timestamp, field: str) -> datetime:
    """A Timestamp as UTC datetime, cut to microseconds.

    The very first and the very last are moved by a microsecond: asyncpg takes them for infinity.

    Raises:
        InvalidArgument: outside the years 1 to 9999, or nanos outside their range.
    """
    seconds, nanos = timestamp.seconds, timestamp.nanos
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < 1_000_000_000):
        raise InvalidArgument.field(field, "is no valid timestamp")
    value = _EPOCH + timedelta(0, seconds, nanos // 1000)
    return value if _FIRST < value < _LAST else min(max(value, _FIRST), _LAST)


def fill_timestamp(target: Timestamp, value: datetime | None) -> None:
    """Sets a Timestamp; None leaves it absent."""
    if value is not None:
        micros = (value - _EPOCH) // timedelta(microseconds=1)
        target.seconds, rest = divmod(micros, 1_000_000)
        target.nanos = rest * 1000
        target.SetInParent()


def to_seconds(duration: Duration) -> float:
    """A Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def fill_duration(target: Duration, seconds: float) -> None:
    """Sets a Duration from seconds, to the nanosecond."""
    target.FromNanoseconds(round(seconds * 1e9))


def embedded(number: int, message: bytes) -> bytes:
    """A serialised message as a field of another one (wire type 2 of protobuf's encoding).

    Args:
        number: of the field.
    """
    return _varint(number << 3 | 2) + _varint(len(message)) + message


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
