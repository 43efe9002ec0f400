"""Page tokens of the API: what they carry for each kind of list."""

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from google.protobuf.message import Message

from engine.item_columns import ItemColumns, unpack_rest
from engine.page_tokens import decode_token, encode_token, request_hash
from engine.requests import PAGE_TOKEN_TTL_SECS
from server.convert import _EPOCH
from storage.exceptions import InvalidArgument
from storage.users import ScoredUserRow

_LONG_REST = 16 * 1024
"""Bytes of a list's rest that are worth deflating: most of a shorter one is numbers."""
_OF_PAGES = frozenset({"page_token", "page_size"})


class _Paged(Protocol):
    page_token: str
    page_size: int


def hash_of(request: Message, tenant_id: str, without: Collection[str] = ()) -> bytes:
    """8 bytes that stand for a request without its page token and page size.

    Args:
        without: further fields that it is to stand without.
    """
    left_out = [
        field.name
        for field, _ in request.ListFields()
        if field.name in _OF_PAGES or field.name in without
    ]
    bare = request
    if left_out:
        bare = type(request)()
        bare.CopyFrom(request)
        for name in left_out:
            bare.ClearField(name)
    return request_hash(
        tenant_id.encode(),
        request.DESCRIPTOR.full_name.encode(),
        bare.SerializeToString(deterministic=True),
    )


def _invalid() -> InvalidArgument:
    return InvalidArgument.field("page_token", "is no page token", reason="INVALID_PAGE_TOKEN")


def key_token(kind: str, hashed: bytes, key: Sequence[Any]) -> str:
    """A token of a list that goes on after its last sort key; it never expires."""
    return encode_token(kind, hashed, list(key), time.time())


def text_key(token: str, kind: str, hashed: bytes, parts: int) -> tuple[str, ...] | None:
    """The last sort key of a token, all text; None for no token."""
    if not token:
        return None
    key = decode_token(token, kind, hashed, time.time(), None)
    if not (isinstance(key, list) and len(key) == parts and all(isinstance(k, str) for k in key)):
        raise _invalid()
    return tuple(key)


def number_key(token: str, kind: str, hashed: bytes) -> int | None:
    """The last sort key of a token, a positive number; None for no token."""
    if not token:
        return None
    match decode_token(token, kind, hashed, time.time(), None):
        case [int(number)] if 0 < number < 2**63:
            return number
    raise _invalid()


def time_token(kind: str, hashed: bytes, at: datetime, key: str) -> str:
    """A token of a list in order of time."""
    return key_token(kind, hashed, [(at - _EPOCH) // timedelta(microseconds=1), key])


def time_key(token: str, kind: str, hashed: bytes) -> tuple[datetime, str] | None:
    """The last (time, key) of a token; None for no token."""
    if not token:
        return None
    match decode_token(token, kind, hashed, time.time(), None):
        case [int(micros), str(key)] if 0 <= micros < 253402300800 * 1_000_000:
            return _EPOCH + timedelta(microseconds=micros), key
    raise _invalid()


def items_token(kind: str, hashed: bytes, recommendation_id: str, rest: bytes) -> str:
    """A token that carries the snapshot of a list's rest; "" when nothing is left."""
    if not rest:
        return ""
    return encode_token(
        kind, hashed, [recommendation_id, rest], time.time(), worth_deflating=_LONG_REST
    )


def items_of(token: str, kind: str, hashed: bytes) -> tuple[str, ItemColumns]:
    """The recommendation id and the snapshot that a token carries."""
    match decode_token(token, kind, hashed, time.time(), PAGE_TOKEN_TTL_SECS):
        case [str(recommendation_id), bytes(rest)]:
            try:
                return recommendation_id, unpack_rest(rest)
            except ValueError as error:
                raise _invalid() from error
    raise _invalid()


def users_token(kind: str, hashed: bytes, rest: Sequence[ScoredUserRow]) -> str:
    """A token that carries the snapshot of a list of users; "" when nothing is left."""
    if not rest:
        return ""
    packed = [[u.user_id, u.score, u.interaction_count] for u in rest]
    return encode_token(kind, hashed, packed, time.time())


def users_of(token: str, kind: str, hashed: bytes) -> list[ScoredUserRow]:
    """The snapshot of users that a token carries."""
    payload = decode_token(token, kind, hashed, time.time(), PAGE_TOKEN_TTL_SECS)
    try:
        users = [ScoredUserRow(str(u), float(s), int(n)) for u, s, n in payload]
    except (ValueError, TypeError, OverflowError) as error:
        raise _invalid() from error
    if not all(0 <= user.interaction_count < 2**63 for user in users):
        raise _invalid()
    return users
