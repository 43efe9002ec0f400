"""Opaque page tokens.

Before base64 (URL-safe, no padding):

    checksum (8) | version (1) | flags (1) | issued (8, big-endian double) | request hash (8)
    | length of kind (1) | kind | payload (msgpack, deflated where that is shorter)

The checksum finds damage; only with a `key` does it also keep callers from making tokens.
"""

import base64
import hmac
import math
import struct
import zlib
from hashlib import blake2b
from typing import Any

import msgpack

from storage.exceptions import FailedPrecondition, InvalidArgument

MAX_PAYLOAD_BYTES = 1024 * 1024

_VERSION = 1
_DEFLATED = 1
_HASH_BYTES = 8
_HEADER = struct.Struct(">BBd8sB")
_WORTH_DEFLATING = 64  # bytes; below, zlib's own header eats the gain


def request_hash(*parts: bytes) -> bytes:
    """8 bytes that stand for what a request asks, its page size and token left out."""
    digest = blake2b(digest_size=_HASH_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def encode_token(
    kind: str,
    request_hash: bytes,
    payload: Any,
    now: float,
    *,
    key: bytes = b"",
    worth_deflating: int = _WORTH_DEFLATING,
) -> str:
    """A token that resumes a request.

    Args:
        kind: the list's kind, up to 255 ASCII characters, such as `list_entities`.
        request_hash: 8 bytes, see `request_hash`.
        payload: what msgpack can hold; tuples come back as lists.
        now: seconds since 1970.
        key: up to 64 bytes; empty for a plain checksum.
        worth_deflating: bytes; a shorter payload is left as it is.

    Raises:
        ValueError: the payload is larger than 1 MiB.
    """
    body = msgpack.packb(payload)
    if len(body) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a page token of {len(body)} bytes")
    flags = 0
    if len(body) >= worth_deflating:
        deflated = zlib.compress(body, level=1)
        if len(deflated) < len(body):
            flags, body = _DEFLATED, deflated
    name = kind.encode("ascii")
    signed = _HEADER.pack(_VERSION, flags, now, request_hash, len(name)) + name + body
    return base64.urlsafe_b64encode(_checksum(signed, key) + signed).rstrip(b"=").decode()


def decode_token(
    token: str, kind: str, request_hash: bytes, now: float, ttl: float | None, *, key: bytes = b""
) -> Any:
    """The payload of a token.

    Args:
        token: as the caller sent it.
        kind: the kind expected.
        request_hash: 8 bytes of the present request.
        now: seconds since 1970.
        ttl: seconds that a token lives; None for ever.
        key: as given to `encode_token`.

    Raises:
        InvalidArgument: INVALID_PAGE_TOKEN for what is no token of ours, PAGE_TOKEN_MISMATCH for
            one of another request.
        FailedPrecondition: PAGE_TOKEN_EXPIRED.
    """
    signed = _verified(token, key)
    try:
        version, flags, issued, token_hash, length = _HEADER.unpack_from(signed)
    except struct.error:
        raise _invalid() from None
    if version != _VERSION or flags not in (0, _DEFLATED) or not math.isfinite(issued):
        raise _invalid()
    body_start = _HEADER.size + length
    if signed[_HEADER.size : body_start] != kind.encode("ascii") or token_hash != request_hash:
        raise InvalidArgument.field(
            "page_token", "belongs to another request", reason="PAGE_TOKEN_MISMATCH"
        )
    if ttl is not None and now - issued > ttl:
        raise FailedPrecondition(
            "page_token: has expired; start again from the first page", reason="PAGE_TOKEN_EXPIRED"
        )
    body = signed[body_start:]
    return _unpack(_inflate(body) if flags == _DEFLATED else body)


def _checksum(signed: bytes, key: bytes) -> bytes:
    return blake2b(signed, digest_size=_HASH_BYTES, key=key).digest()


def _verified(token: str, key: bytes) -> bytes:
    if len(token) > 2 * MAX_PAYLOAD_BYTES:
        raise _invalid()
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _invalid() from None
    checksum, signed = raw[:_HASH_BYTES], raw[_HASH_BYTES:]
    if not hmac.compare_digest(checksum, _checksum(signed, key)):
        raise _invalid()
    return signed


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(body, MAX_PAYLOAD_BYTES)
    except zlib.error:
        raise _invalid() from None
    if not inflater.eof:
        raise _invalid()
    return payload


def _unpack(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(payload)
    except (ValueError, TypeError, msgpack.UnpackException):
        raise _invalid() from None


def _invalid() -> InvalidArgument:
    return InvalidArgument.field(
        "page_token", "is not a page token of this service", reason="INVALID_PAGE_TOKEN"
    )
