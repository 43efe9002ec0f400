"""Receipts of erasures: what was removed, as JSON that is signed and can be checked elsewhere.

The payload is one JSON object in UTF-8, keys sorted, without white space. Of a user it holds a salt
and the scrypt hash of the id under it, so that who knows the id can tell whose receipt it is.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from engine.secret import ServerSecret
from storage.erasure import ReceiptRow
from storage.exceptions import FailedPrecondition

SCRYPT = {"n": 2**14, "r": 8, "p": 1}
"""Costs of the hash of the id: 16 MiB and some 50 ms (RFC 7914)."""

_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt with what its payload says.

    Attributes:
        counts: how much was removed, by store.
        model_versions: trained models that had seen the user, as name@version.
    """

    row: ReceiptRow
    counts: Mapping[str, int]
    model_versions: tuple[str, ...]


class ReceiptSigner:
    """Signs receipts (Ed25519, RFC 8032).

    Args:
        secret: the key derives from it where no file is given, so that all workers have the same.
        key_file: a private key in PEM, without a password.
    """

    def __init__(self, secret: ServerSecret, key_file: Path | None = None) -> None:
        self._secret = secret
        self._key_file = key_file

    @cached_property
    def key_id(self) -> str:
        """Names the public key: the first 16 digits of its SHA-256."""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:16]

    @cached_property
    def public_key_pem(self) -> str:
        """The public key that receipts are verified with."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def issue(
        self,
        tenant_id: str,
        subject: Literal["user", "tenant"],
        erased_at: datetime,
        counts: Mapping[str, int],
        *,
        model_versions: Sequence[str] = (),
        user_id: str | None = None,
    ) -> Receipt:
        """A new receipt; takes some 50 ms of a processor where a user is given.

        Raises:
            FailedPrecondition: the key file cannot be read, or holds no such key.
        """
        receipt_id = uuid.uuid4().hex
        told: dict[str, object] = {
            "receipt_id": receipt_id,
            "tenant_id": tenant_id,
            "subject": subject,
            "erased_at": erased_at.isoformat(),
            "counts": dict(counts),
            "model_versions": list(model_versions),
            "key_id": self.key_id,
        }
        if user_id is not None:
            salt = os.urandom(_SALT_BYTES)
            told["salt"] = salt.hex()
            told["user_scrypt"] = hashlib.scrypt(user_id.encode(), salt=salt, **SCRYPT).hex()
        payload = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
        row = ReceiptRow(
            tenant_id, receipt_id, subject, erased_at, payload, self._key.sign(payload), self.key_id
        )
        return read_receipt(row)

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        if self._key_file is None:
            return Ed25519PrivateKey.from_private_bytes(self._secret.derive("receipts")[:32])
        try:
            key = load_pem_private_key(self._key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no PEM without password"
            raise _unusable(self._key_file, str(why)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable(self._key_file, "it holds another key than one of Ed25519")
        return key


def read_receipt(row: ReceiptRow) -> Receipt:
    """A kept receipt with what its payload says."""
    told = orjson.loads(row.payload)
    return Receipt(row, told["counts"], tuple(told["model_versions"]))


def _unusable(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"PENCHANT_SIGNING_KEY_FILE: {path} cannot be used: {why}.")
