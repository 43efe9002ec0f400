"""The text of an API key, and the hash that is stored of it.

The text is `pk_`, the visible id (12 of a-z and 2-7), `_`, and 256 random bits (43 of A-Z, a-z and
0-9).
"""

import re
import secrets
import string
from functools import cached_property
from hashlib import blake2b

from engine.secret import ServerSecret
from storage.api_keys import HashedKey

PREFIX = "pk_"
HASH_BYTES = 32

_ID_LETTERS = string.ascii_lowercase + "234567"
_ID_LENGTH = 12
_SECRET_LETTERS = string.ascii_letters + string.digits
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_KEY = re.compile(rf"{PREFIX}([a-z2-7]{{{_ID_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}")
_KEY_ID = re.compile(rf"[a-z2-7]{{{_ID_LENGTH}}}")
_PURPOSE = "api keys"


def _draw(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))


def id_in(text: str) -> str | None:
    """The visible id of what looks like a key; None for anything else."""
    match = _KEY.fullmatch(text)
    return None if match is None else match[1]


def is_key_id(text: str) -> bool:
    """Whether a text could be a key's id."""
    return _KEY_ID.fullmatch(text) is not None


class KeyHasher:
    """Makes keys and their hashes: BLAKE2b of the whole key, keyed by the server's secret."""

    def __init__(self, secret: ServerSecret) -> None:
        self._secret = secret

    @property
    def pepper(self) -> str:
        """The fingerprint of the pepper; FailedPrecondition where there is none."""
        return self._secret.fingerprint

    def hash_of(self, text: str) -> bytes:
        """The 32 bytes that are stored of a key; FailedPrecondition without a pepper."""
        given = text.encode("utf-8", "replace")
        return blake2b(given, key=self._key, digest_size=HASH_BYTES).digest()

    @cached_property
    def _key(self) -> bytes:
        return self._secret.derive(_PURPOSE)

    def make(self) -> tuple[str, HashedKey]:
        """A new key, and what is stored of it; FailedPrecondition without a pepper."""
        key_id = _draw(_ID_LETTERS, _ID_LENGTH)
        text = f"{PREFIX}{key_id}_{_draw(_SECRET_LETTERS, _SECRET_LENGTH)}"
        return text, HashedKey(key_id, self.hash_of(text), self.pepper)
