"""Requests of PrivacyService."""

from penchant.requests.parts import one_of
from penchant.v1 import privacy_pb2 as privacy


def erase_user(
    user_id: str | None = None, *, session_id: str | None = None, readmit: bool = False
) -> privacy.EraseUserRequest:
    """Removes everything that is kept of a user or session; answers with a signed receipt.

    Args:
        readmit: takes in what they do later, and refuses only what is older than the erasure.
    """
    return privacy.EraseUserRequest(
        **one_of(user_id=user_id, session_id=session_id), readmit=readmit
    )


def verify_erasure(
    user_id: str | None = None, *, session_id: str | None = None
) -> privacy.VerifyErasureRequest:
    """Looks for a user or session in every store."""
    return privacy.VerifyErasureRequest(**one_of(user_id=user_id, session_id=session_id))


def readmit_user(
    user_id: str | None = None, *, session_id: str | None = None
) -> privacy.ReadmitUserRequest:
    """Takes in again what an erased user or session does from now on."""
    return privacy.ReadmitUserRequest(**one_of(user_id=user_id, session_id=session_id))


def get_erasure_receipt(receipt_id: str) -> privacy.GetErasureReceiptRequest:
    """A receipt of the tenant."""
    return privacy.GetErasureReceiptRequest(receipt_id=receipt_id)


def get_tenant_erasure_receipt(tenant_id: str) -> privacy.GetTenantErasureReceiptRequest:
    """The receipt of a tenant that was erased; for operators."""
    return privacy.GetTenantErasureReceiptRequest(tenant_id=tenant_id)


def get_receipt_key() -> privacy.GetReceiptKeyRequest:
    """The public key that receipts are verified with."""
    return privacy.GetReceiptKeyRequest()
