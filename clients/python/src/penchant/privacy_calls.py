"""The unary calls of PrivacyService once, and both clients' methods that make them."""

from penchant import privacy_responses as responses
from penchant.async_calls import AsyncCall, AsyncCaller
from penchant.calls import Call
from penchant.requests import privacy as requests
from penchant.responses import nothing
from penchant.sync_calls import SyncCall, SyncCaller

ERASE_USER = Call(lambda stubs: stubs.privacy.EraseUser, requests.erase_user, responses.erased)
VERIFY_ERASURE = Call(
    lambda stubs: stubs.privacy.VerifyErasure, requests.verify_erasure, responses.findings
)
READMIT_USER = Call(lambda stubs: stubs.privacy.ReadmitUser, requests.readmit_user, nothing)
GET_ERASURE_RECEIPT = Call(
    lambda stubs: stubs.privacy.GetErasureReceipt, requests.get_erasure_receipt, responses.kept
)
GET_TENANT_ERASURE_RECEIPT = Call(
    lambda stubs: stubs.privacy.GetTenantErasureReceipt,
    requests.get_tenant_erasure_receipt,
    responses.kept,
)
GET_RECEIPT_KEY = Call(
    lambda stubs: stubs.privacy.GetReceiptKey, requests.get_receipt_key, responses.key
)


class AsyncPrivacyCalls:
    """Erasing people, and the receipts that prove it."""

    caller: AsyncCaller

    erase_user = AsyncCall(ERASE_USER)
    verify_erasure = AsyncCall(VERIFY_ERASURE)
    readmit_user = AsyncCall(READMIT_USER)
    get_erasure_receipt = AsyncCall(GET_ERASURE_RECEIPT)
    get_tenant_erasure_receipt = AsyncCall(GET_TENANT_ERASURE_RECEIPT)
    get_receipt_key = AsyncCall(GET_RECEIPT_KEY)


class SyncPrivacyCalls:
    """Erasing people, and the receipts that prove it."""

    caller: SyncCaller

    erase_user = SyncCall(ERASE_USER)
    verify_erasure = SyncCall(VERIFY_ERASURE)
    readmit_user = SyncCall(READMIT_USER)
    get_erasure_receipt = SyncCall(GET_ERASURE_RECEIPT)
    get_tenant_erasure_receipt = SyncCall(GET_TENANT_ERASURE_RECEIPT)
    get_receipt_key = SyncCall(GET_RECEIPT_KEY)
