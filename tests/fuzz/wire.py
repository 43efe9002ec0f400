"""Bytes of messages spoilt in every way that the wire format knows."""

import random
from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor

from tests.fuzz.messages import BAD_UTF8

_MARK = BAD_UTF8.encode()
_NO_UTF8 = (b"\xff\xfe\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80\xc3", b"\xed\xa0\x80" * 4, b"\x80" * 12)
_LENGTHS = (0, 1, 127, 2**14, 2**28, 2**31 - 1, 2**32, 2**63, 2**64 - 1)
_STRUCT = "google.protobuf.Struct"


def spoil_texts(raw: bytes, chance: random.Random) -> bytes:
    """The bytes with what is no UTF-8 in the texts that were marked; lengths stay right."""
    return raw.replace(_MARK, chance.choice(_NO_UTF8))


def varint(number: int) -> bytes:
    """A number in base 128, the smallest digit first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def deep_struct(levels: int) -> bytes:
    """The bytes of a Struct in a Struct in a Struct."""
    inner = b""
    for _ in range(levels):
        value = field(5, inner)
        inner = field(1, field(1, b"d") + field(2, value))
    return inner


@cache
def struct_paths(kind: Descriptor) -> list[tuple[int, ...]]:
    """Where in a message Structs stand, as numbers of fields."""
    return list(_struct_paths(kind, ()))


def _struct_paths(kind: Descriptor, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for part in kind.fields:
        if part.message_type is None or len(path) > 3:
            continue
        here = (*path, part.number)
        if part.message_type.full_name == _STRUCT:
            yield here
        elif part.message_type is not kind:
            yield from _struct_paths(part.message_type, here)


def mutate(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    """The bytes with one to four faults."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        raw = chance.choice(_FAULTS)(raw, kind, chance)
    return raw


def _flip(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    out = bytearray(raw)
    for _ in range(chance.choice((1, 2, 8)) if out else 0):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def _cut(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw) + 1)]


def _double(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    begin, end = sorted(chance.randrange(min(len(raw), 50_000) + 1) for _ in range(2))
    return raw[:end] + raw[begin:end] + raw[end:]


def _repeat_all(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    """Whole messages one after the other are merged into one."""
    return raw * chance.choice((2, 3, 100)) if len(raw) < 2000 else raw


def _insert(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + chance.randbytes(chance.choice((1, 2, 9))) + raw[at:]


def _unknown(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    number = chance.choice((15, 999, 19_000, 2**29 - 1))
    content = chance.randbytes(chance.choice((0, 4, 1000)))
    extra = (
        field(number, content),
        varint(number << 3) + varint(2**64 - 1),
        varint(number << 3 | 1) + bytes(8),
        varint(number << 3 | 5) + bytes(4),
    )
    return raw + chance.choice(extra)


def _wrong_type(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    """A field of the message with another wire type than its own."""
    number = chance.choice(kind.fields).number if kind.fields else 1
    content = {
        0: varint(chance.choice(_LENGTHS)),
        1: b"\xff" * 8,
        2: varint(3) + b"abc",
        5: b"\xff" * 4,
    }
    type_ = chance.choice(list(content))
    return raw + varint(number << 3 | type_) + content[type_]


def _group(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    number = chance.choice((1, 2, 15, 500))
    begin, end = varint(number << 3 | 3), varint(number << 3 | 4)
    levels = chance.choice((1, 50, 99, 101, 5000))
    return raw + begin * levels + end * chance.choice((levels, levels - 1, 0, levels + 1))


def _length_lie(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    number = chance.choice(kind.fields).number if kind.fields else 1
    return raw + varint(number << 3 | 2) + varint(chance.choice(_LENGTHS)) + b"ab"


def _bad_tag(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    return raw + chance.choice(
        (b"\0", b"\x06", b"\x07", b"\xff" * 11, b"\x80" * 10 + b"\1", b"\x0a")
    )


def _deep(raw: bytes, kind: Descriptor, chance: random.Random) -> bytes:
    paths = struct_paths(kind)
    content = deep_struct(chance.choice((5, 16, 17, 30, 33, 100, 2000)))
    for number in reversed(chance.choice(paths) if paths else (1, 1, 1)):
        content = field(number, content)
    return raw + content


_FAULTS = (
    _flip,
    _flip,
    _flip,
    _cut,
    _double,
    _repeat_all,
    _insert,
    _unknown,
    _wrong_type,
    _group,
    _length_lie,
    _bad_tag,
    _deep,
)
