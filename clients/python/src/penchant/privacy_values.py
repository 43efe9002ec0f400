"""The values of erasures."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What was erased, signed.

    Attributes:
        subject: user or tenant.
        counts: what was removed, by table or other store.
        model_versions: trained models that had seen the user, as name@version.
        payload: JSON in UTF-8: what is signed.
        signature: Ed25519 over the payload.
        key_id: names the public key, as `get_receipt_key` does.
    """

    receipt_id: str
    tenant_id: str
    subject: str
    erased_at: datetime | None
    counts: Mapping[str, int]
    model_versions: tuple[str, ...]
    payload: bytes
    signature: bytes
    key_id: str


@dataclass(frozen=True, slots=True)
class UserErased:
    """A receipt, and the names of the operations that train models anew."""

    receipt: ErasureReceipt
    retrainings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErasureFindings:
    """What there is of a user, by store; `refused` while all that they do is refused."""

    found: Mapping[str, int]
    clean: bool
    refused: bool


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """The public key that receipts are verified with, in PEM."""

    key_id: str
    public_key_pem: str
