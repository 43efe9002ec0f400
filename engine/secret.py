"""The server's one secret, from which every keyed hash and signature has a key of its own."""

from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from pydantic import SecretStr

from storage.pepper import kept_pepper

KEY_BYTES = 32
_PERSON = b"penchant"


class ServerSecret:
    """Keys by purpose, derived from the pepper (keyed BLAKE2b, RFC 7693).

    Whoever knows the key of one purpose learns nothing of the pepper or of another purpose's key.
    The pepper is read, or made, when it is first needed.

    Args:
        data_dir: below it lies the pepper where none is given (`storage/pepper.py`).
        pepper: of the setting PENCHANT_KEY_PEPPER; None: the file's.
    """

    def __init__(self, data_dir: Path, pepper: SecretStr | None = None) -> None:
        self._data_dir = data_dir
        self._given = pepper

    def derive(self, purpose: str) -> bytes:
        """The 32 bytes that are the key of a purpose, the same on every host with this pepper.

        Args:
            purpose: a name of the program's own, such as `api keys`; never what a caller sends.

        Raises:
            FailedPrecondition: no pepper is given and the file cannot be read or made.
        """
        return blake2b(
            purpose.encode(), key=self._root, digest_size=KEY_BYTES, person=_PERSON
        ).digest()

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell peppers apart and say nothing else; may be stored."""
        return self.derive("fingerprint")[:8].hex()

    @cached_property
    def _root(self) -> bytes:
        given = self._given
        pepper = kept_pepper(self._data_dir) if given is None else given.get_secret_value().encode()
        return blake2b(pepper, person=_PERSON).digest()
