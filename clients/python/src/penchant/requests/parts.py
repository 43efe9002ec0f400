"""The pieces that several requests share."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from penchant.v1.common_pb2 import EntityRef

Ref = tuple[str, str]
"""`(entity_type, entity_id)`, such as an EntityRef."""


def entity_ref(ref: Ref) -> EntityRef:
    """The message of `(entity_type, entity_id)`."""
    entity_type, entity_id = ref
    return EntityRef(entity_type=entity_type, entity_id=entity_id)


def struct(values: Mapping[str, Any]) -> Struct:
    """JSON values as a Struct; ValueError for a value that JSON does not have."""
    message = Struct()
    message.update(values)
    return message


def timestamp(value: datetime | None) -> Timestamp | None:
    """An instant, to the microsecond; ValueError when it has no time zone."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} needs a time zone")
    message = Timestamp()
    message.FromDatetime(value)
    return message


def duration(value: timedelta | None) -> Duration | None:
    """A span of time, to the microsecond; None for none."""
    if value is None:
        return None
    message = Duration()
    message.FromTimedelta(value)
    return message


def field_mask(names: Sequence[str] | None) -> FieldMask | None:
    """The mask of these paths; None when there are none to tell."""
    return None if names is None else FieldMask(paths=names)


def one_of(**given: object) -> dict[str, Any]:
    """The argument that is not None, as keywords; ValueError when more than one is."""
    present = {name: value for name, value in given.items() if value is not None}
    if len(present) > 1:
        raise ValueError(f"give only one of {' and '.join(present)}")
    return present
