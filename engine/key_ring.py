"""The API keys that work, as one worker knows them: no query is made to check a call."""

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from engine.access import Principal, implied
from engine.key_text import HASH_BYTES, KeyHasher, id_in
from storage.api_keys import ApiKeyStore, KeysMark, LiveKey
from storage.exceptions import Unavailable

LOOK_SECS = 0.5
"""Between looks for changes: half of the second within which a revocation works."""
TRUSTED_SECS = 60.0
"""For how long known keys stay good at least while PostgreSQL does not answer."""

_QUERY_SECS = 2.0
_SECS_BETWEEN_LOOKS = 0.05
_MOST_WAITING = 16
_NOBODY = bytes(HASH_BYTES)
_USED_AGAIN_SECS = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    secret_hash: bytes
    principal: Principal


class KeyRing:
    """All live keys in memory, looked up again whenever one of them changes.

    Args:
        store: where they are.
        hasher: of what callers send.
        trusted_secs: for how long known keys stay good while PostgreSQL does not answer.
        clock: the present, for expiry.
    """

    def __init__(
        self,
        store: ApiKeyStore,
        hasher: KeyHasher,
        *,
        trusted_secs: float = TRUSTED_SECS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._hasher = hasher
        self.trusted_secs = trusted_secs
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self.edition = 0
        """Another one whenever a key was made, altered or ended."""
        self._count = 0
        self._mark: KeysMark | None = None
        self._looked_at = float("-inf")
        self._heard_at = float("-inf")
        self._looking = asyncio.Lock()
        self._waiting = 0
        self._used: set[str] = set()
        self._noted: dict[str, float] = {}

    @property
    def in_use(self) -> bool:
        """Whether a key was ever made, also one that has ended."""
        return self._count > 0

    @property
    def is_trusted(self) -> bool:
        """Whether what is known was true `trusted_secs` ago or later."""
        return time.monotonic() - self._heard_at <= self.trusted_secs

    def find(self, text: str) -> Principal | None:
        """Whose key a text is; None for what is no key, or unknown, altered or ended.

        The hash is made and compared for every text, so that the time tells nothing.

        Raises:
            FailedPrecondition: the server has no pepper.
        """
        key_id = id_in(text)
        known = self._known.get(key_id) if key_id is not None else None
        digest = self._hasher.hash_of(text)
        same = hmac.compare_digest(digest, _NOBODY if known is None else known.secret_hash)
        if key_id is None or known is None or not same or self._is_over(known.principal):
            return None
        self._note_use(key_id)
        return known.principal

    def still_holds(self, principal: Principal) -> bool:
        """Whether a principal that `find` gave would be given again."""
        known = self._known.get(principal.actor.removeprefix("key:"))
        return known is not None and not self._is_over(known.principal)

    async def look(self) -> None:
        """Reads the keys if any has changed.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        async with self._looking:
            await self._look()

    async def look_again(self) -> None:
        """Waits for a look that began after this call: for a key that was made a moment ago.

        Looks are shared and spaced out, and few may wait, so that wrong keys cost PostgreSQL
        nothing; the others go without.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        if self._waiting >= _MOST_WAITING:
            return
        asked_at = time.monotonic()
        self._waiting += 1
        try:
            async with self._looking:
                if self._looked_at >= asked_at:
                    return
                await asyncio.sleep(self._looked_at + _SECS_BETWEEN_LOOKS - time.monotonic())
                await self._look()
        finally:
            self._waiting -= 1

    async def note_uses(self) -> None:
        """Writes down which keys were used since the last time; Unavailable loses nothing."""
        used = sorted(self._used)
        if used:
            await self._store.touch(used)
            self._used.difference_update(used)

    async def _look(self) -> None:
        begin = self._looked_at = time.monotonic()
        try:
            async with asyncio.timeout(_QUERY_SECS):
                mark = await self._store.mark()
                self._count = mark.count
                if mark != self._mark:
                    self._learn(await self._store.live() if mark.count else [])
                    self._mark = mark
        except TimeoutError as error:
            raise Unavailable("PostgreSQL does not answer.", retry_after=1.0) from error
        self._heard_at = begin

    def _learn(self, keys: list[LiveKey]) -> None:
        pepper = self._hasher.pepper if keys else ""
        strange = [key.key_id for key in keys if key.pepper != pepper]
        if strange:
            _log.error(
                "API keys were made with another pepper and do not work: set PENCHANT_KEY_PEPPER "
                "to that one, or make new keys",
                keys=len(strange),
            )
        self._known = {
            key.key_id: _Known(
                key.secret_hash,
                Principal(
                    kind="key",
                    actor=f"key:{key.key_id}",
                    tenant_id=key.tenant_id or None,
                    scopes=implied(key.scopes, of_tenant=bool(key.tenant_id)),
                    expires_at=key.expires_at,
                ),
            )
            for key in keys
        }
        self._noted = {key: at for key, at in self._noted.items() if key in self._known}
        self.edition += 1

    def _is_over(self, principal: Principal) -> bool:
        return principal.expires_at is not None and principal.expires_at <= self._clock()

    def _note_use(self, key_id: str) -> None:
        now = time.monotonic()
        if now - self._noted.get(key_id, float("-inf")) >= _USED_AGAIN_SECS:
            self._noted[key_id] = now
            self._used.add(key_id)
