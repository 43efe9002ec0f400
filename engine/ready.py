"""Answers in the form in which they leave, with what caches need to know of them."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgpack

from engine.answers import Answer

Render: TypeAlias = Callable[[Answer], bytes]
"""Makes what leaves of an answer, but for what differs between calls; pure."""


class Ready(NamedTuple):
    """An answer that was rendered.

    Attributes:
        body: what the caller's `Render` made of it.
        packed: by `engine.answers.pack_answer`.
        made_at: Unix time at which it was computed.
        for_once: not to be kept: something could not take part, or a newer model is about to.
        transaction_id: the snapshot that it was checked against.
        has_items: whether anything was recommended.
    """

    body: bytes
    packed: bytes
    made_at: float
    for_once: bool
    transaction_id: int = 0
    has_items: bool = True


def pack_ready(ready: Ready) -> bytes:
    """An answer as bytes for the result cache: those that are not degraded alone."""
    packed: bytes = msgpack.packb((ready.made_at, ready.has_items, ready.packed, ready.body))
    return packed


def unpack_ready(packed: bytes) -> Ready | None:
    """The answer again; None for bytes that are something else."""
    try:
        made_at, has_items, answer, body = msgpack.unpackb(packed)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    if not (isinstance(made_at, float) and isinstance(answer, bytes) and isinstance(body, bytes)):
        return None
    return Ready(body, answer, made_at, for_once=False, has_items=bool(has_items))
