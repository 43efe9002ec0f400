"""Messages from descriptors: some make sense, some nearly, some not at all.

A seeded generator of its own, since hypothesis makes some hundred messages a second and a run
needs hundreds of thousands.
"""

import math
import random
import string
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.fuzz.filter_texts import filter_text

BAD_UTF8 = "\x01\x02bad-utf8\x02\x01"
"""Stands in texts for bytes that are no UTF-8; `wire.spoil_texts` puts those in."""

_INTS = (0, 1, -1, 2, 7, 100, 1000, 1001, 32767, 65536)
_EDGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1, 2**53, 2**31),
    FieldDescriptor.CPPTYPE_UINT32: (2**32 - 1,),
    FieldDescriptor.CPPTYPE_UINT64: (2**64 - 1, 2**63),
}
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e6, 1e6 + 1, 1e38, -5e-324, math.pi)
_WILD_FLOATS = (math.nan, math.inf, -math.inf, 1.7e308, -1.7e308)
_TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "%",
    "_",
    "*",
    "?",
    "\\",
    "'; DROP TABLE tenants; --",
    '"',
    "$1",
    "{}",
    "[]",
    "null",
    "NaN",
    "-1",
    "0",
    "é",
    "e\u0301",
    "\u202e",
    "\ufeff",
    "\uffff",
    "😀" * 64,
    "\x7f",
    "\n",
    "../../../etc/passwd",
    "a" * 255,
    "a" * 256,
    "é" * 128,
    "%00",
    "operations/",
    "operations/00000000-0000-0000-0000-000000000000",
    "00000000-0000-0000-0000-000000000000",
    "9" * 400,
    "*/1 * * * *",
    "0 3 * * *",
    BAD_UTF8,
)
_SECONDS = (0, -1, 1, -62135596800, 253402300799, 253402300800, -62135596801, 2**63 - 1, -(2**63))
_NANOS = (0, 1, 999_999_999, 1_000_000_000, -1, -999_999_999, 2**31 - 1, -(2**31))
_NEEDED = {
    *("name", "entity_type", "entity_id", "user_id", "interaction_type", "tenant_id", "version"),
    *("recommendation_id", "key_id", "receipt_id", "operation", "target_user_id"),
    *("weight", "scopes"),
}
_SELDOM = {
    *("session_id", "scenario", "rotation", "model_version", "page_token", "update_mask"),
    "algorithm",
}
_OPERATIONS = "google.longrunning."
_MAX_MESSAGES_DEEP = 6
_MAX_VALUES = 2000


class Names:
    """Texts that mean something to the service, by the name of the field that takes them.

    What answers say is added to what the world was made with, so that page tokens, versions,
    operations and receipts are real ones most of the time.
    """

    def __init__(self, known: dict[str, Iterable[str]], dimension: int) -> None:
        self._known = {name: list(texts) for name, texts in known.items()}
        self._heard: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=50))
        self.dimension = dimension

    def hear(self, field: str, text: str) -> None:
        if text and len(text) < 4096 and text not in self._known.get(field, ()):
            self._heard[field].append(text)

    def of(self, field: str, chance: random.Random) -> str | None:
        known, heard = self._known.get(field, []), self._heard.get(field, ())
        if not known and not heard:
            return None
        at = chance.randrange(len(known) + len(heard))
        return known[at] if at < len(known) else heard[at - len(known)]


class Generator:
    """Makes messages.

    Attributes:
        wildness: share of the values that make no sense; drawn anew for every message.
    """

    def __init__(self, chance: random.Random, names: Names) -> None:
        self._chance = chance
        self._names = names
        self.wildness = 0.0
        self._left = 0
        self._special: dict[str, Callable[[Any], None]] = {
            "google.protobuf.Timestamp": self._timestamp,
            "google.protobuf.Duration": self._duration,
            "google.protobuf.Struct": lambda message: self._struct(message, 0),
            "google.protobuf.Value": lambda message: self._value(message, 0),
        }

    def message(self, kind: type[Message]) -> Message:
        """One message of the type."""
        self.wildness = self._chance.choice((0.0, 0.0, 0.02, 0.1, 0.3, 0.8))
        self._left = _MAX_VALUES
        made = kind()
        self._fill(made, 0)
        return made

    def _wild(self) -> bool:
        return self._chance.random() < self.wildness

    def _fill(self, message: Any, depth: int) -> None:
        kind: Descriptor = message.DESCRIPTOR
        special = self._special.get(kind.full_name)
        if special is not None:
            special(message)
            return
        if kind.full_name == "google.protobuf.FieldMask":
            return  # made by whoever holds it, who knows the paths
        chosen = {
            oneof.name: self._chance.choice([*oneof.fields, None] if self._wild() else oneof.fields)
            for oneof in kind.oneofs
        }
        share = self._chance.choice((0.15, 0.4, 0.7, 1.0))
        for field in kind.fields:
            if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
                if chosen[field.containing_oneof.name] is not field:
                    continue
            elif self._chance.random() > self._share(field, share):
                continue
            self._set(message, field, depth)

    def _share(self, field: FieldDescriptor, share: float) -> float:
        """How often a message has a field; requests make no sense without some."""
        if field.name in _SELDOM and not self._wild():
            return 0.05
        return 0.95 if field.name in _NEEDED or field.message_type is not None else share

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._map(message, field)
        elif field.is_repeated:
            self._repeat(message, field, depth)
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field))
        elif depth < _MAX_MESSAGES_DEEP:
            part = getattr(message, field.name)
            part.SetInParent()
            if field.message_type.full_name == "google.protobuf.FieldMask":
                part.paths.extend(self._paths(message))
            else:
                self._fill(part, depth + 1)

    def _map(self, message: Any, field: FieldDescriptor) -> None:
        assert field.message_type is not None
        value = field.message_type.fields_by_name["value"]
        target = getattr(message, field.name)
        for _ in range(self._count()):
            if value.message_type is None:
                target[self._text(field.name)] = self._scalar(value)
            else:
                self._fill(target[self._text(field.name)], _MAX_MESSAGES_DEEP)

    def _repeat(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        target = getattr(message, field.name)
        if field.message_type is None:
            count = self._count()
            if field.type == FieldDescriptor.TYPE_FLOAT and not self._wild():
                count = self._names.dimension
            target.extend(self._scalar(field) for _ in range(count))
        elif depth < _MAX_MESSAGES_DEEP:
            for _ in range(self._count() if depth < 2 else self._chance.randrange(3)):
                self._fill(target.add(), depth + 1)

    def _count(self) -> int:
        """How many elements; none once the message has as many as it may."""
        if self._wild():
            count = self._chance.choice((0, 1, 2, 17, 65, 101, 300, 1001))
        else:
            count = self._chance.choice((0, 1, 1, 1, 1, 2, 2, 3))
        count = min(count, self._left)
        self._left -= count
        return count

    def _scalar(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return self._chance.randbytes(self._chance.choice((0, 1, 16, 300, 5000)))
            assert field.containing_type is not None
            of_operation = field.containing_type.full_name.startswith(_OPERATIONS)
            return self._text("operation" if of_operation else field.name)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._chance.random() < 0.3
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            if self._wild():
                return self._chance.choice((-1, 99, 2**31 - 1, -(2**31)))
            return self._chance.choice(field.enum_type.values).number
        if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
            return self._float()
        return self._int(kind)

    def _float(self) -> float:
        if self._wild():
            return self._chance.choice(_FLOATS + _WILD_FLOATS)
        return self._chance.choice((0.5, 1.0, round(self._chance.random(), 3)))

    def _int(self, kind: int) -> int:
        if not self._wild():
            return self._chance.choice((0, 1, 2, 3, 5, 10, 20))
        found = self._chance.choice(_INTS + _EDGES[kind] * 2)
        unsigned = kind in {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
        return abs(found) if unsigned else found

    def _text(self, field: str) -> str:
        chance = self._chance
        if field == "filter" and chance.random() < 0.9:
            return filter_text(chance, wild=self._wild())
        known = self._names.of(field, chance)
        if known is not None and not self._wild():
            return known
        match chance.randrange(5):
            case 0 if known:
                at = chance.randrange(len(known))
                return known[:at] + chance.choice("aA0-_=%\0é") + known[at + 1 :]
            case 1:
                return "".join(chance.choices(string.printable, k=chance.choice((1, 5, 40, 300))))
            case 2 if self._wild():
                return chance.choice(("a", "é", "😀")) * chance.choice((300, 1000, 1000, 5000))
            case 3 | 4 if not self.wildness:
                return f"n{chance.randrange(1000)}"
        return chance.choice(_TEXTS)

    def _paths(self, message: Any) -> list[str]:
        """Paths of the other fields, of their fields, and such as are none."""
        parts = [f.message_type for f in message.DESCRIPTOR.fields if f.message_type is not None]
        good = [field.name for part in parts for field in part.fields]
        good += ["settings.unknown_entities", "settings.source_weights", "attributes.year", "year"]
        count = self._chance.choice((0, 1, 2, 5, 40 if self._wild() else 1))
        return [
            self._chance.choice(_TEXTS) if self._wild() else self._chance.choice(good)
            for _ in range(count)
        ]

    def _timestamp(self, message: Any) -> None:
        if self._wild():
            message.seconds = self._chance.choice(_SECONDS)
            message.nanos = self._chance.choice(_NANOS)
        else:
            age = self._chance.randrange(-10 if self._chance.random() < 0.2 else 0, 10)
            message.seconds = int(time.time()) - age * 86400

    def _duration(self, message: Any) -> None:
        if self._wild():
            message.seconds = self._chance.choice((*_SECONDS, 315_576_000_000, -315_576_000_001))
            message.nanos = self._chance.choice(_NANOS)
        else:
            message.seconds = self._chance.choice((3600, 86400, 30 * 86400))

    def _struct(self, message: Any, depth: int) -> None:
        names = ("year", "genres", "title", "sold", "k", "neighbours", "author")
        for _ in range(self._count()):
            key = self._chance.choice(_TEXTS if self._wild() else names)
            self._value(message.fields[key], depth + 1)

    def _value(self, message: Any, depth: int) -> None:
        # A level of a Struct is three of messages, and protobuf reads a hundred.
        deepest = 28 if self._wild() else 3
        match self._chance.randrange(8):
            case 0:
                message.null_value = 0
            case 1 | 2:
                message.number_value = self._float()
            case 3:
                message.string_value = self._chance.choice(_TEXTS)
            case 4:
                message.bool_value = True
            case 5 if depth < deepest:
                message.struct_value.SetInParent()
                self._struct(message.struct_value, depth + 1)
            case 6 if depth < deepest:
                message.list_value.SetInParent()
                for _ in range(min(self._count(), 20)):
                    self._value(message.list_value.values.add(), depth + 1)
            case 7 if self._wild():
                self._deep(message, self._chance.choice((10, 17, 24, 30)))
            case _:
                message.string_value = self._chance.choice(("sf", "crime", "romance"))

    @staticmethod
    def _deep(message: Any, levels: int) -> None:
        for _ in range(levels):
            message = message.struct_value.fields["d"]
        message.number_value = 1
