"""From a call's metadata to who calls."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from engine.access import ANONYMOUS, Principal
from engine.key_ring import LOOK_SECS, KeyRing
from engine.key_text import PREFIX
from storage.ending import end
from storage.exceptions import FailedPrecondition, PenchantError, Unauthenticated, Unavailable

AUTHORIZATION_KEY = "authorization"
API_KEY_KEY = "x-api-key"

_RETRY_SECS = 1.0

_log = structlog.get_logger(__name__)


class Verifier(Protocol):
    """Knows the tokens of an identity provider."""

    async def verify(self, token: str) -> Principal:
        """Whom a token stands for; Unauthenticated (INVALID_CREDENTIALS), Unavailable."""
        ...

    def known(self, token: str) -> Principal | None:
        """Whom a token stands for that was verified before and is still good."""
        ...


class Authenticator:
    """Knows callers by their key or token: `start`, then `authenticate` every call, then `stop`.

    Everybody is anonymous and may do everything until a first key was made, on whichever host, or
    where tokens are verified.

    Args:
        ring: the API keys.
        tokens: verifies bearer tokens that are no API key; None: there are none.
    """

    def __init__(self, ring: KeyRing, tokens: Verifier | None = None) -> None:
        self._ring = ring
        self._tokens = tokens
        self._watch: asyncio.Task[None] | None = None

    @property
    def is_required(self) -> bool:
        """Whether calls must say whose they are."""
        return self._tokens is not None or self._ring.in_use

    @property
    def edition(self) -> int:
        """Another one whenever the keys that work are others."""
        return self._ring.edition

    async def start(self) -> None:
        """Reads the keys and goes on watching them; Unavailable, FailedPrecondition."""
        await self._ring.look()
        self._watch = asyncio.create_task(self._watch_keys())

    async def stop(self) -> None:
        """Ends the watch and writes down which keys were used."""
        if self._watch is None:
            return
        await end(self._watch)
        with contextlib.suppress(PenchantError):
            await self._ring.note_uses()

    async def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """Who calls.

        Raises:
            Unauthenticated: nothing is given though it must be (UNAUTHENTICATED); what is given is
                wrong (INVALID_CREDENTIALS), with one answer for every way to be wrong.
            Unavailable: PostgreSQL has been away for so long that keys cannot be trusted.
        """
        given = _credentials(metadata)
        if not self.is_required:
            if not any(text.startswith(PREFIX) for text in given):
                return ANONYMOUS
            # Whoever has a key may be ahead of this worker, which has yet to hear of the first one.
            await self._ring.look_again()
            if not self.is_required:
                return ANONYMOUS
        if not given:
            raise Unauthenticated(
                "The call needs an API key or a token: authorization: Bearer KEY."
            )
        (text, *more) = given
        if more:
            raise _wrong()
        if not text.startswith(PREFIX) and self._tokens is not None:
            return await self._tokens.verify(text)
        return await self._owner_of(text)

    def known(self, key: str | None, text: str | bytes | None) -> Principal | None:
        """Whose credential this is, where that is known without waiting; for one credential.

        Args:
            key: of the metadata where it stood; None: none is given.
        """
        if key is None:
            return None if self.is_required else ANONYMOUS
        given = _credential(key, text or "")
        if not self.is_required:
            return None
        if not given.startswith(PREFIX):
            return None if self._tokens is None else self._tokens.known(given)
        if not self._ring.is_trusted:
            return None
        try:
            return self._ring.find(given)
        except FailedPrecondition:
            return None

    def check_still(self, principal: Principal) -> None:
        """Raises Unauthenticated when a principal may not go on: for streams, at each message."""
        if principal.kind == "key":
            holds = self._ring.still_holds(principal)
        elif principal.kind == "anonymous":
            holds = not self.is_required
        else:
            holds = principal.expires_at is None or principal.expires_at > datetime.now(UTC)
        if not holds:
            raise _wrong()

    async def _owner_of(self, text: str) -> Principal:
        if not self._ring.is_trusted:
            raise Unavailable(
                f"API keys could not be read for {self._ring.trusted_secs:.0f} seconds.",
                retry_after=_RETRY_SECS,
            )
        principal = self._ring.find(text)
        if principal is None:
            await self._ring.look_again()
            principal = self._ring.find(text)
        if principal is None:
            raise _wrong()
        return principal

    async def _watch_keys(self) -> None:
        reads = True
        while True:
            await asyncio.sleep(LOOK_SECS)
            try:
                await self._ring.look()
                await self._ring.note_uses()
            except PenchantError as error:
                if reads:
                    _log.warning("API keys cannot be read", reason=error.reason)
                reads = False
            else:
                reads = True


def _credentials(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """What is given, each text once."""
    given = [(k, v) for k, v in metadata if k in {AUTHORIZATION_KEY, API_KEY_KEY}]
    return list(dict.fromkeys(_credential(key, value) for key, value in given))


def _credential(key: str, value: str | bytes) -> str:
    """The key or token; with a scheme other than Bearer it is kept, and wrong."""
    text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else value).strip()
    if key == AUTHORIZATION_KEY:
        scheme, _, rest = text.partition(" ")
        if scheme.lower() == "bearer":
            return rest.strip()
    return text


def _wrong() -> Unauthenticated:
    return Unauthenticated(
        "The API key or token is unknown, altered, expired or revoked.",
        reason="INVALID_CREDENTIALS",
    )
