"""Page tokens: round trips, mismatches, damage."""

import base64
import struct
import zlib
from hashlib import blake2b

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.page_tokens import MAX_PAYLOAD_BYTES, decode_token, encode_token, request_hash
from storage.exceptions import FailedPrecondition, InvalidArgument

HASH = request_hash(b"tenant", b"request")
NOW = 1_700_000_000.0
REASONS = {"INVALID_PAGE_TOKEN", "PAGE_TOKEN_MISMATCH", "PAGE_TOKEN_EXPIRED"}

payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def outcome(token, ttl=60.0):
    """The payload, or the reason of the error."""
    try:
        return decode_token(token, "list", HASH, NOW, ttl), None
    except (InvalidArgument, FailedPrecondition) as error:
        return None, error.reason


def forged(body, flags=0, issued=NOW):
    """A token whose unkeyed checksum is right, whatever it holds."""
    signed = struct.pack(">BBd8sB", 1, flags, issued, HASH, 4) + b"list" + body
    checksum = blake2b(signed, digest_size=8).digest()
    return base64.urlsafe_b64encode(checksum + signed).rstrip(b"=").decode()


@given(payloads, st.binary(max_size=64))
def test_token_round_trip(payload, key):
    token = encode_token("list", HASH, payload, NOW, key=key)
    assert decode_token(token, "list", HASH, NOW, 60.0, key=key) == payload


def test_token_of_a_repetitive_payload_is_deflated():
    payload = ["item-0001"] * 1000
    token = encode_token("list", HASH, payload, NOW)
    assert len(token) < 200
    assert decode_token(token, "list", HASH, NOW, None) == payload


def test_token_of_a_payload_that_is_not_worth_deflating_is_left_as_it_is():
    payload = ["item-0001"] * 1000
    token = encode_token("list", HASH, payload, NOW, worth_deflating=20_000)
    assert len(token) > 10_000
    assert decode_token(token, "list", HASH, NOW, None) == payload


def test_token_of_a_huge_payload_is_not_made():
    with pytest.raises(ValueError, match="page token"):
        encode_token("list", HASH, b"x" * (MAX_PAYLOAD_BYTES + 1), NOW)


@pytest.mark.parametrize(
    ("kind", "other_hash"), [("list", request_hash(b"other")), ("lists", HASH)]
)
def test_token_of_another_request_is_a_mismatch(kind, other_hash):
    token = encode_token("list", HASH, 1, NOW)
    with pytest.raises(InvalidArgument) as caught:
        decode_token(token, kind, other_hash, NOW, None)
    assert caught.value.reason == "PAGE_TOKEN_MISMATCH"


def test_token_past_its_time_has_expired():
    token = encode_token("list", HASH, 1, NOW)
    assert decode_token(token, "list", HASH, NOW + 60, 60.0) == 1
    with pytest.raises(FailedPrecondition) as caught:
        decode_token(token, "list", HASH, NOW + 61, 60.0)
    assert caught.value.reason == "PAGE_TOKEN_EXPIRED"


def test_token_under_another_key_is_invalid():
    token = encode_token("list", HASH, 1, NOW, key=b"one")
    with pytest.raises(InvalidArgument) as caught:
        decode_token(token, "list", HASH, NOW, None, key=b"two")
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "é",
        "\ud800",
        "=" * 8,
        "A" * (3 * 1024 * 1024),
        forged(zlib.compress(b"\0" * 50_000_000), flags=1),
        forged(b"\x91" * 5000),
        forged(b"\x00", flags=7),
        forged(b"\x00", issued=float("nan")),
        forged(msgpack.packb({(1, 2): 3})),
    ],
    ids=lambda token: ascii(token[:12]),
)
def test_token_that_is_garbage_is_invalid(token):
    assert outcome(token) == (None, "INVALID_PAGE_TOKEN")


@given(st.text(max_size=60) | st.binary(max_size=60).map(forged))
def test_token_of_random_text_raises_only_its_errors(token):
    assert outcome(token)[1] in REASONS | {None}


@given(payloads, st.data())
def test_token_when_mutated_raises_only_its_errors(payload, data):
    token = list(encode_token("list", HASH, payload, NOW))
    position = data.draw(st.integers(0, len(token) - 1))
    token[position] = data.draw(st.characters())
    assert outcome("".join(token)) in [(payload, None), *((None, reason) for reason in REASONS)]
