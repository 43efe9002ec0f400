"""Attributes of entities as messages, kept in the form in which they travel."""

from functools import lru_cache

from google.protobuf.struct_pb2 import Struct

from server.convert import json_to_struct

_KEPT = 4096
_MOST = 2048
"""Characters of an attributes' text that is kept: some 20 MiB for all of them at the worst."""


def fill_attributes(text: str, target: Struct) -> None:
    """Fills an empty Struct from attributes as JSON text.

    The entities that lists show are often the same: what their text becomes is kept, until others
    take its place or `forget_attributes` is called.
    """
    if len(text) > _MOST:
        json_to_struct(text, target)
    elif packed := _packed(text):  # nothing at all would still set the field
        target.MergeFromString(packed)


def forget_attributes() -> None:
    """Drops all that is kept: a tenant or an entity is being erased."""
    _packed.cache_clear()


@lru_cache(_KEPT)
def _packed(text: str) -> bytes:
    filled = Struct()
    json_to_struct(text, filled)
    return filled.SerializeToString()
