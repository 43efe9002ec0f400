"""Tokens of an identity provider: which are believed, and what they are read as."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.access import SCOPES
from server.key_sets import KeySet, check_key_set, usable_keys
from server.tokens import TokenVerifier
from storage.exceptions import FailedPrecondition, Unauthenticated
from tests.server.key_server import (
    AUDIENCE,
    ISSUER,
    KeyServer,
    claims,
    entry,
    key_set,
    private_key,
    serving_keys,
    token,
)
from tests.waiting import until


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    with serving_keys() as server:
        yield server


@asynccontextmanager
async def verifying(
    place: str | Path, *, unknown_secs: float = 30.0, **names: str
) -> AsyncIterator[TokenVerifier]:
    keys = KeySet(str(place), unknown_secs=unknown_secs)
    await keys.start()
    given = {"tenant_claim": "tenant", "scope_claim": "scope", **names}
    try:
        yield TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, **given)
    finally:
        await keys.stop()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    put(path, key_set("rsa1", "ec1", "ed1"))
    return path


@pytest.fixture
async def verifier(key_file: Path) -> AsyncIterator[TokenVerifier]:
    async with verifying(key_file) as verifier:
        yield verifier


async def refused(verifier: TokenVerifier, text: str) -> bool:
    """Whether it is, in the words that are the same for all; that it is not is a failure."""
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(text)
    said = (caught.value.reason, caught.value.message)
    return said == (
        "INVALID_CREDENTIALS",
        "The API key or token is unknown, altered, expired or revoked.",
    )


def put(path: Path, document: object) -> None:
    """Writes a key set, or a text as it is."""
    path.write_text(document if isinstance(document, str) else json.dumps(document))


@pytest.mark.parametrize("name", ["rsa1", "ec1", "ed1"])
async def test_token_of_each_algorithm_is_read(verifier: TokenVerifier, name: str) -> None:
    principal = await verifier.verify(token(name))
    assert (principal.kind, principal.actor, principal.tenant_id) == ("jwt", "jwt:ada", "a")
    assert principal.scopes == {"recommend:read", "interactions:write"}


def _public_pem(name: str) -> bytes:
    public: bytes = (
        private_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return public


def _signed_by_hand(header: dict[str, Any], secret: bytes = b"", **changes: Any) -> str:
    """A token with any header; HMAC where there is a secret, which no library would do."""

    def part(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    body = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims(**changes)).encode())
    signature = hmac.digest(secret, body, hashlib.sha256) if secret else b""
    return (body + b"." + part(signature)).decode()


def _altered(text: str) -> str:
    head, _, signature = text.rsplit(".", 2)
    other = base64.urlsafe_b64encode(json.dumps(claims(tenant="b")).encode()).rstrip(b"=").decode()
    return f"{head}.{other}.{signature}"


_BAD: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: _signed_by_hand({"alg": "none", "kid": "rsa1"}),
    "no algorithm, oddly written": lambda: _signed_by_hand({"alg": "NoNe", "kid": "rsa1"}),
    "HMAC with the public key": lambda: _signed_by_hand(
        {"alg": "HS256", "kid": "rsa1"}, _public_pem("rsa1")
    ),
    "HMAC with the key as it stands in the set": lambda: _signed_by_hand(
        {"alg": "HS256", "kid": "rsa1"}, json.dumps(entry("rsa1")).encode()
    ),
    "another hash": lambda: token("rsa1", alg="RS512"),
    "another padding": lambda: token("rsa1", alg="PS256"),
    "another curve": lambda: token("p384", kid="ec1"),
    "a key of another type": lambda: token("ec1", kid="rsa1"),
    "another key of the type": lambda: token("rsa2", kid="rsa1"),
    "a key that is not in the set": lambda: token("rsa2"),
    "no key named of several": lambda: token("rsa1", kid=None),
    "a key id that is no text": lambda: _signed_by_hand({"alg": "RS256", "kid": ["rsa1"]}),
    "an algorithm that is no text": lambda: _signed_by_hand({"alg": ["RS256"], "kid": "rsa1"}),
    "a header that must be understood": lambda: jwt.encode(
        claims(), private_key("rsa1"), "RS256", {"kid": "rsa1", "crit": ["odd"], "odd": 1}
    ),
    "altered claims": lambda: _altered(token("rsa1")),
    "expired": lambda: token(exp=int(time.time()) - 31),
    "no end": lambda: token(exp=None),
    "an end that is no time": lambda: token(exp="soon"),
    "an end out of all time": lambda: token(exp=10**18),
    "not yet valid": lambda: token(nbf=int(time.time()) + 120),
    "made in the future": lambda: token(iat=int(time.time()) + 120),
    "another issuer": lambda: token(iss="https://other.example"),
    "no issuer": lambda: token(iss=None),
    "another audience": lambda: token(aud=["others"]),
    "no audience": lambda: token(aud=None),
    "no subject": lambda: token(sub=None),
    "an empty subject": lambda: token(sub=""),
    "a subject with control characters": lambda: token(sub="a\x00b"),
    "a subject without end": lambda: token(sub="a" * 256),
    "no tenant": lambda: token(tenant=None),
    "an empty tenant": lambda: token(tenant=""),
    "a tenant that is no text": lambda: token(tenant=["a"]),
    "scopes that are no list": lambda: token(scope=7),
    "an empty text": lambda: "",
    "no token": lambda: "pen_abc",
    "three dots": lambda: "...",
    "text that is no ASCII": lambda: "é.\udc80.ü",
    "deep nesting": lambda: (
        base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode() + ".e30.e30"
    ),
}


@pytest.mark.parametrize("make", _BAD.values(), ids=_BAD.keys())
async def test_bad_token_is_refused_in_the_same_words(
    verifier: TokenVerifier, make: Callable[[], str]
) -> None:
    assert await refused(verifier, make())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": -5},
        {"nbf": 20},
        {"aud": ["others", AUDIENCE]},
        {"scope": ["recommend:read", "interactions:write", 7, "of another service"]},
    ],
    ids=["expired a moment ago", "valid in a moment", "for several", "scopes as a list"],
)
async def test_token_that_is_good_enough_is_read(
    verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    now = int(time.time())
    claims = {k: now + v if isinstance(v, int) else v for k, v in changes.items()}
    principal = await verifier.verify(token(**claims))
    assert principal.scopes == {"recommend:read", "interactions:write"}


async def test_operator_needs_no_tenant(verifier: TokenVerifier) -> None:
    principal = await verifier.verify(token(tenant=None, scope="operator"))
    assert (principal.tenant_id, principal.scopes) == (None, SCOPES)


async def test_operator_with_a_tenant_gives_nothing(verifier: TokenVerifier) -> None:
    principal = await verifier.verify(token(scope="operator recommend:read"))
    assert (principal.tenant_id, principal.scopes) == ("a", {"recommend:read"})


async def test_claims_have_the_names_of_the_settings(key_file: Path) -> None:
    async with verifying(key_file, tenant_claim="org", scope_claim="scp") as verifier:
        text = token(tenant=None, scope=None, org="b", scp=["models:admin"])
        principal = await verifier.verify(text)
    assert (principal.tenant_id, principal.scopes) == ("b", {"models:admin"})


async def test_token_names_no_key_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    put(path, {"keys": [entry("ec1", kid=None)]})
    async with verifying(path) as verifier:
        assert (await verifier.verify(token("ec1", kid=None))).tenant_id == "a"
        assert await refused(verifier, token("ec1"))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.lists(st.binary(max_size=60), min_size=3, max_size=3))
def test_nonsense_is_refused(given_text: str | list[bytes]) -> None:
    if isinstance(given_text, str):
        text = given_text
    else:
        text = ".".join(base64.urlsafe_b64encode(part).decode() for part in given_text)
    verifier = TokenVerifier(
        KeySet("/nowhere"), issuer="i", audience="a", tenant_claim="t", scope_claim="s"
    )
    with capture_logs():
        assert asyncio.run(refused(verifier, text))


async def test_known_token_costs_no_signature_check(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = token()
    first = await verifier.verify(text)
    monkeypatch.setattr(jwt, "decode", None)
    assert await verifier.verify(text) is first


async def test_known_token_ends_with_its_time(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.tokens.LEEWAY_SECS", 60)
    text = token(exp=int(time.time()) - 28)
    await verifier.verify(text)
    monkeypatch.setattr("server.tokens.LEEWAY_SECS", 20)
    assert await refused(verifier, text)


async def test_rotated_file_is_read_and_old_tokens_end(key_file: Path) -> None:
    keys = KeySet(str(key_file))
    await keys.start()
    verifier = TokenVerifier(
        keys, issuer=ISSUER, audience=AUDIENCE, tenant_claim="tenant", scope_claim="scope"
    )
    try:
        old, new = token("rsa1"), token("rsa2")
        await verifier.verify(old)
        put(key_file, key_set("rsa2"))
        assert (await verifier.verify(new)).actor == "jwt:ada"
        assert await refused(verifier, old)
        before = keys.keys
        put(key_file, key_set("ed1"))
        await until(lambda: keys.keys is not before)
        assert await refused(verifier, new)
    finally:
        await keys.stop()


async def test_broken_file_leaves_the_last_good_set(key_file: Path) -> None:
    async with verifying(key_file) as verifier:
        with capture_logs() as lines:
            for text in ('{"keys": [', "[]", '{"keys": 7}'):
                put(key_file, text)
                for _ in range(2):
                    assert await refused(verifier, token("rsa2"))
            await asyncio.to_thread(key_file.unlink)
            assert await refused(verifier, token("rsa2"))
        assert (await verifier.verify(token("ec1"))).tenant_id == "a"
    assert [line["message"].partition("READ")[0][:32] for line in lines] == [
        "PENCHANT_JWT_JWKS is not JSON",
        "PENCHANT_JWT_JWKS is no JWK set:",
        "PENCHANT_JWT_JWKS cannot be read",
    ]


async def test_set_without_keys_ends_every_token(key_file: Path) -> None:
    async with verifying(key_file) as verifier:
        text = token("rsa1")
        await verifier.verify(text)
        put(key_file, {"keys": []})
        assert await refused(verifier, token("rsa2"))
        assert await refused(verifier, text)


async def test_url_is_asked_once_for_many_tokens(key_server: KeyServer) -> None:
    key_server.document = key_set("rsa1", "ed1")
    async with verifying(key_server.url) as verifier:
        for name in ("rsa1", "ed1", "rsa1"):
            await verifier.verify(token(name, sub=f"somebody {name}"))
    assert key_server.asked == 1


async def test_unknown_key_asks_the_url_at_most_so_often(key_server: KeyServer) -> None:
    text = token("rsa2")
    async with verifying(key_server.url, unknown_secs=60) as verifier:
        key_server.document = key_set("rsa1", "rsa2")
        assert await refused(verifier, text)
        assert key_server.asked == 1
        verifier._set._tried -= 60
        answers = await asyncio.gather(*(verifier.verify(text) for _ in range(10)))
    assert {principal.tenant_id for principal in answers} == {"a"}
    assert key_server.asked == 2


async def test_url_that_is_away_leaves_the_last_good_set(key_server: KeyServer) -> None:
    async with verifying(key_server.url, unknown_secs=0.0) as verifier:
        key_server.away = True
        with capture_logs() as lines:
            for _ in range(3):
                assert await refused(verifier, token("rsa2"))
        assert (await verifier.verify(token("rsa1"))).tenant_id == "a"
        key_server.away, key_server.document = False, key_set("rsa2")
        assert (await verifier.verify(token("rsa2"))).tenant_id == "a"
    assert [line["log_level"] for line in lines] == ["error"]


async def test_url_that_is_away_at_the_start_is_asked_again(key_server: KeyServer) -> None:
    key_server.away = True
    async with verifying(key_server.url, unknown_secs=0.0) as verifier:
        assert await refused(verifier, token("rsa1"))
        key_server.away = False
        assert (await verifier.verify(token("rsa1"))).tenant_id == "a"


_UNUSABLE = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "s"},
    "for encryption": entry("rsa1", use="enc"),
    "another algorithm": entry("rsa1", alg="RS512"),
    "a weak key": entry("weak1"),
    "another curve": entry("p384"),
    "a private key": {**entry("ec1"), "d": "AAAA"},
    "no numbers": {"kty": "RSA", "kid": "x", "n": "", "e": "AQAB"},
    "a key id that is no text": entry("ec1", kid=[1]),
    "no key": "text",
}


@pytest.mark.parametrize("key", _UNUSABLE.values(), ids=_UNUSABLE.keys())
def test_unusable_key_is_passed_over(key: object) -> None:
    assert list(usable_keys({"keys": [key, entry("ed1")]})) == [("ed1", "EdDSA")]


def test_key_set_without_usable_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    put(path, {"keys": [_UNUSABLE["a secret"]]})
    with pytest.raises(FailedPrecondition, match="holds no public key for RS256, ES256, EdDSA"):
        check_key_set(str(path))
