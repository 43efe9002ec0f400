"""The public keys of an identity provider: a JWK set from a file or a URL, kept up to date."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWKClient
from jwt.exceptions import PyJWTError

from storage.ending import end
from storage.exceptions import FailedPrecondition

ALGORITHMS: Mapping[tuple[str, str | None], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""The one algorithm that each type of key, with its curve, verifies."""

Keys = Mapping[tuple[str | None, str], PyJWK]
"""Keys by id and algorithm; the id is None for a key that has none."""

_NAMES = ", ".join(ALGORITHMS.values())
_SETTING = "PENCHANT_JWT_JWKS"
_FILE_SECS = 1.0
_URL_SECS = 300.0
_UNKNOWN_SECS = 30.0
_FETCH_SECS = 5.0
_MIN_RSA_BITS = 2048

_log = structlog.get_logger(__name__)


class KeySet:
    """The keys, read again every second from a file and every five minutes from a URL.

    What cannot be read or is no key set is logged once, and the last good set stays. A set without
    usable keys is taken at its word.

    Args:
        place: a path, or a URL with http or https.
        unknown_secs: least time between two fetches from a URL because of an unknown key.
    """

    def __init__(self, place: str, *, unknown_secs: float = _UNKNOWN_SECS) -> None:
        self._source = _source(place)
        self._is_url = isinstance(self._source, PyJWKClient)
        self._unknown_secs = unknown_secs if self._is_url else 0.0
        self._document: object = None
        self._keys: Keys = {}
        self._problem: str | None = None
        self._tried = 0.0
        self._refresh: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def keys(self) -> Keys:
        """The keys of the last good set: another object whenever they change."""
        return self._keys

    async def start(self) -> None:
        """Reads the set, and again and again in the running loop, until `stop`."""
        await self.refresh()
        self._watch = asyncio.create_task(self._refresh_for_ever())

    async def stop(self) -> None:
        """Reads no more."""
        await end(self._watch, self._refresh)

    async def refresh(self) -> None:
        """Reads the set now; calls at the same time share one reading."""
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._read())
        # A caller that is cancelled must not end the reading for the others.
        await asyncio.shield(self._refresh)

    async def refresh_for_unknown(self) -> None:
        """Reads the set for a key that is not in it, unless a URL was asked a moment ago."""
        under_way = self._refresh is not None and not self._refresh.done()
        if under_way or time.monotonic() - self._tried >= self._unknown_secs:
            await self.refresh()

    async def _read(self) -> None:
        self._tried = time.monotonic()
        try:
            document = await asyncio.to_thread(read_document, self._source)
            if document == self._document:
                self._problem = None
                return
            keys = usable_keys(document)
        except FailedPrecondition as error:
            if error.message != self._problem:
                self._problem = error.message
                _log.error("the key set of tokens cannot be used", message=error.message)
            return
        self._document, self._keys, self._problem = document, keys, None
        if keys:
            _log.info("key set of tokens is read", keys=len(keys))
        else:  # the provider has withdrawn them
            _log.warning("the key set of tokens holds no usable key", algorithms=_NAMES)

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_URL_SECS if self._is_url else _FILE_SECS)
            await self.refresh()


def check_key_set(place: str) -> int:
    """How many usable keys there are at a path or URL.

    Raises:
        FailedPrecondition: it cannot be read, or holds none.
    """
    keys = usable_keys(read_document(_source(place)))
    if not keys:
        raise FailedPrecondition(f"{_SETTING} holds no public key for {_NAMES}")
    return len(keys)


def is_url(place: str) -> bool:
    """Whether a key set is fetched, and not read from a file."""
    return place.lower().startswith(("http://", "https://"))


def read_document(source: PyJWKClient | Path) -> object:
    """The set as it is written; blocks.

    Raises:
        FailedPrecondition: it cannot be read or is no JSON.
    """
    try:
        if isinstance(source, Path):
            return json.loads(source.read_bytes())
        return source.fetch_data()
    except PyJWTError as error:
        raise FailedPrecondition(f"{_SETTING} cannot be fetched: {error}") from error
    except OSError as error:
        raise FailedPrecondition(f"{_SETTING} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise FailedPrecondition(f"{_SETTING} is not JSON") from error


def usable_keys(document: object) -> Keys:
    """The keys of a set that may verify tokens; others are passed over.

    Raises:
        FailedPrecondition: the document is no key set.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise FailedPrecondition(f"{_SETTING} is no JWK set: it has no list `keys`")
    found: dict[tuple[str | None, str], PyJWK] = {}
    for entry in listed:
        key = _key(entry) if isinstance(entry, dict) else None
        if key is not None:
            found[key.key_id, key.algorithm_name] = key
    return found


def _key(entry: dict[str, Any]) -> PyJWK | None:
    algorithm = ALGORITHMS.get((str(entry.get("kty")), entry.get("crv")))
    for_this = entry.get("use", "sig") == "sig" and entry.get("alg", algorithm) == algorithm
    # A set that shows its private keys must not be believed.
    if algorithm is None or not for_this or "d" in entry:
        return None
    if not isinstance(entry.get("kid"), str | None):
        return None
    try:
        key = PyJWK(entry, algorithm)
    except (PyJWTError, ValueError):
        return None
    weak = isinstance(key.key, RSAPublicKey) and key.key.key_size < _MIN_RSA_BITS
    return None if weak else key


def _source(place: str) -> PyJWKClient | Path:
    if is_url(place):
        return PyJWKClient(place, cache_jwk_set=False, timeout=_FETCH_SECS)
    return Path(place)
