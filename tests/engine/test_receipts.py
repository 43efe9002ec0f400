"""Receipts: what is signed, with which key."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from pydantic import SecretStr

from engine.receipts import Receipt, ReceiptSigner, read_receipt
from engine.secret import ServerSecret
from engine.tombstones import Tombstones
from storage.exceptions import FailedPrecondition

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def secret(text: str = "x") -> ServerSecret:
    return ServerSecret(Path("/nowhere"), SecretStr(text * 32))


def issued(signer: ReceiptSigner, user_id: str | None = "ada") -> Receipt:
    return signer.issue("shop", "user", NOW, {"b": 1, "a": 0}, user_id=user_id)


def public_key(signer: ReceiptSigner) -> Ed25519PublicKey:
    key = load_pem_public_key(signer.public_key_pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    return key


def written(path: Path, key: object, how: KeySerializationEncryption) -> Path:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)  # type: ignore[attr-defined]
    path.write_bytes(pem)
    return path


def test_signature_fits_the_payload() -> None:
    signer = ReceiptSigner(secret())
    row = issued(signer).row
    public_key(signer).verify(row.signature, row.payload)


def test_payload_is_canonical_and_says_all() -> None:
    signer = ReceiptSigner(secret())
    receipt = issued(signer)
    told = orjson.loads(receipt.row.payload)
    assert list(told) == sorted(told)
    assert told["erased_at"] == "2026-05-01T12:30:00+00:00"
    assert (told["counts"], receipt.counts) == ({"a": 0, "b": 1}, {"a": 0, "b": 1})
    salt = bytes.fromhex(told["salt"])
    assert hashlib.scrypt(b"ada", salt=salt, n=2**14, r=8, p=1).hex() == told["user_scrypt"]
    assert read_receipt(receipt.row) == receipt


def test_two_receipts_of_one_user_share_no_hash() -> None:
    signer = ReceiptSigner(secret())
    first, second = (orjson.loads(issued(signer).row.payload) for _ in range(2))
    assert first["user_scrypt"] != second["user_scrypt"]
    assert first["receipt_id"] != second["receipt_id"]


def test_receipt_of_a_tenant_holds_no_hash() -> None:
    row = ReceiptSigner(secret()).issue("shop", "tenant", NOW, {}).row
    assert not {"salt", "user_scrypt"} & set(orjson.loads(row.payload))


def test_key_follows_from_the_secret() -> None:
    first, same, other = (ReceiptSigner(secret(text)) for text in "xxy")
    assert first.key_id == same.key_id != other.key_id


def test_key_file_is_used(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    signer = ReceiptSigner(secret(), written(tmp_path / "k", key, NoEncryption()))
    row = issued(signer).row
    key.public_key().verify(row.signature, row.payload)
    assert row.key_id == signer.key_id != ReceiptSigner(secret()).key_id


@pytest.mark.parametrize("kind", ["absent", "text", "curve", "password"])
def test_useless_key_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    if kind == "text":
        path.write_text("no key")
    elif kind == "curve":
        written(path, generate_private_key(SECP256R1()), NoEncryption())
    elif kind == "password":
        written(path, Ed25519PrivateKey.generate(), BestAvailableEncryption(b"word"))
    with pytest.raises(FailedPrecondition, match="PENCHANT_SIGNING_KEY_FILE"):
        issued(ReceiptSigner(secret(), path))


def test_tombstone_depends_on_tenant_user_and_pepper() -> None:
    here, there = Tombstones(secret("x")), Tombstones(secret("y"))
    hashes = {
        here.hash("a", "ada"), here.hash("b", "ada"), here.hash("a", "bob"), there.hash("a", "ada"),
        here.hash("a-", "da"),
    }  # fmt: skip
    assert {len(h) for h in hashes} == {32}
    assert len(hashes) == 5
    assert here.hash("a", "ada") == Tombstones(secret("x")).hash("a", "ada")
