"""Plain values from the messages of PrivacyService."""

from collections.abc import Iterable

from penchant import privacy_values as values
from penchant.responses import instant
from penchant.v1 import privacy_pb2 as pb


def _counts(rows: Iterable[pb.StoreCount]) -> dict[str, int]:
    return {row.store: row.count for row in rows}


def receipt(message: pb.ErasureReceipt) -> values.ErasureReceipt:
    """A receipt as it was given."""
    return values.ErasureReceipt(
        receipt_id=message.receipt_id,
        tenant_id=message.tenant_id,
        subject=message.subject,
        erased_at=instant(message, "erased_at"),
        counts=_counts(message.counts),
        model_versions=tuple(message.model_versions),
        payload=message.payload,
        signature=message.signature,
        key_id=message.key_id,
    )


def erased(message: pb.EraseUserResponse) -> values.UserErased:
    """The answer of EraseUser."""
    return values.UserErased(receipt(message.receipt), tuple(message.retrainings))


def findings(message: pb.VerifyErasureResponse) -> values.ErasureFindings:
    """The answer of VerifyErasure."""
    return values.ErasureFindings(_counts(message.found), message.clean, message.refused)


def kept(
    message: pb.GetErasureReceiptResponse | pb.GetTenantErasureReceiptResponse,
) -> values.ErasureReceipt:
    """The receipt that an answer carries."""
    return receipt(message.receipt)


def key(message: pb.GetReceiptKeyResponse) -> values.ReceiptKey:
    """The answer of GetReceiptKey."""
    return values.ReceiptKey(message.key_id, message.public_key_pem)
