"""Tokens of an identity provider (JWT): verified, and read as who calls and what they may do."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from engine.access import OPERATOR, Principal, implied
from server.key_sets import ALGORITHMS, KeySet
from server.settings import Settings
from storage.exceptions import Unauthenticated

LEEWAY_SECS = 30
"""How far the provider's clock may be from this machine's."""

_MAX_REMEMBERED = 10_000
_MAX_SUBJECT = 255  # as OpenID Connect has it; it stands in logs and in the audit

# The last three come out of times and nesting that no provider writes.
_WRONG = (PyJWTError, ValueError, TypeError, OverflowError, OSError, RecursionError)

_Remembered = tuple[Principal, float]


class TokenVerifier:
    """Verifies tokens, each once: until its `exp` it is then known by its hash.

    A token that names a tenant is bound to it, and operator among its scopes gives nothing.

    Args:
        keys: the provider's keys.
        issuer: what `iss` must be.
        audience: what `aud` must be or hold.
        tenant_claim: the claim that names the tenant.
        scope_claim: the claim with the scopes, a list or a text with spaces.
    """

    def __init__(
        self, keys: KeySet, *, issuer: str, audience: str, tenant_claim: str, scope_claim: str
    ) -> None:
        self._set = keys
        self._issuer = issuer
        self._audience = audience
        self._tenant_claim = tenant_claim
        self._scope_claim = scope_claim
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._keys_of_remembered = keys.keys

    async def verify(self, token: str) -> Principal:
        """Who the token speaks for; scopes that this service does not know are passed over.

        Raises:
            Unauthenticated: whatever is wrong with the token, always in the same words.
        """
        name = _name_of(token)
        known = self._recall(name)
        if known is not None:
            return known
        try:
            claims = await self._claims(token)
            principal = self._principal(claims)
            expires = float(claims["exp"])
        except _WRONG as error:
            raise Unauthenticated(
                "The API key or token is unknown, altered, expired or revoked.",
                reason="INVALID_CREDENTIALS",
            ) from error
        self._remember(name, principal, expires)
        return principal

    def known(self, token: str) -> Principal | None:
        """Whom a token stands for that was verified before and is still good."""
        return self._recall(_name_of(token))

    async def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        key = self._key(header)
        if key is None:
            await self._set.refresh_for_unknown()
            key = self._key(header)
        if key is None:
            raise jwt.InvalidKeyError
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_SECS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK | None:
        """The key that a token names; it need not where there is but one."""
        keys = self._set.keys
        key_id, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS.values():
            raise jwt.InvalidAlgorithmError
        if key_id is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get((key_id, algorithm))

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject, tenant_id = claims["sub"], claims.get(self._tenant_claim)
        if not subject or len(subject) > _MAX_SUBJECT or not subject.isprintable():
            raise ValueError("sub")
        listed = claims.get(self._scope_claim, ())
        words = listed.split() if isinstance(listed, str) else listed
        scopes = implied(
            (word for word in words if isinstance(word, str)), of_tenant=tenant_id is not None
        )
        if tenant_id is None and OPERATOR not in scopes:
            raise ValueError(self._tenant_claim)
        if tenant_id is not None and not (isinstance(tenant_id, str) and tenant_id):
            raise ValueError(self._tenant_claim)
        ends = datetime.fromtimestamp(float(claims["exp"]) + LEEWAY_SECS, UTC)
        return Principal("jwt", f"jwt:{subject}", tenant_id, scopes, ends)

    def _recall(self, name: bytes) -> Principal | None:
        if self._keys_of_remembered is not self._set.keys:
            self._remembered.clear()
            self._keys_of_remembered = self._set.keys
        found = self._remembered.get(name)
        if found is None:
            return None
        principal, expires = found
        if time.time() < expires:
            return principal
        del self._remembered[name]
        return None

    def _remember(self, name: bytes, principal: Principal, expires: float) -> None:
        self._remembered[name] = (principal, expires)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _name_of(token: str) -> bytes:
    """What a token is remembered by, not to keep it."""
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()


@asynccontextmanager
async def token_verifier(settings: Settings) -> AsyncIterator[TokenVerifier | None]:
    """The verifier that is configured, its keys kept up to date; None: no tokens are taken."""
    if settings.jwt_jwks is None:
        yield None
        return
    assert settings.jwt_issuer is not None
    assert settings.jwt_audience is not None
    keys = KeySet(settings.jwt_jwks)
    await keys.start()
    try:
        yield TokenVerifier(
            keys,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            tenant_claim=settings.jwt_tenant_claim,
            scope_claim=settings.jwt_scope_claim,
        )
    finally:
        await keys.stop()
