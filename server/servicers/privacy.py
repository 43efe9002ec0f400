"""PrivacyService."""

from collections.abc import Mapping
from typing import Any

import grpc
from penchant.v1 import privacy_pb2 as pb
from penchant.v1.privacy_pb2_grpc import PrivacyServiceServicer

from engine.erasure import Privacy
from engine.ingest import subject
from engine.receipts import Receipt
from server.call import tenant_of_call
from server.convert import fill_timestamp
from server.model_messages import operation_name
from storage.exceptions import InvalidArgument

_Context = grpc.aio.ServicerContext[Any, Any]


def parse_subject(
    request: pb.EraseUserRequest | pb.VerifyErasureRequest | pb.ReadmitUserRequest,
) -> str:
    """The stored user id that a request is about."""
    if request.WhichOneof("subject") is None:
        raise InvalidArgument.field("subject", "needs user_id or session_id")
    return subject(request.user_id, request.session_id)


def _counts(counts: Mapping[str, int]) -> list[pb.StoreCount]:
    return [pb.StoreCount(store=store, count=count) for store, count in sorted(counts.items())]


def render_receipt(receipt: Receipt, target: pb.ErasureReceipt) -> None:
    """Fills a message; the payload goes out as it was signed."""
    row = receipt.row
    target.receipt_id, target.tenant_id, target.subject = row.receipt_id, row.tenant_id, row.subject
    fill_timestamp(target.erased_at, row.erased_at)
    target.counts.extend(_counts(receipt.counts))
    target.model_versions.extend(receipt.model_versions)
    target.payload, target.signature, target.key_id = row.payload, row.signature, row.key_id


class PrivacyServicer(PrivacyServiceServicer):
    """Erases users and proves it."""

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy

    async def EraseUser(
        self, request: pb.EraseUserRequest, context: _Context
    ) -> pb.EraseUserResponse:
        """Removes everything that is kept of a user."""
        erased = await self._privacy.erase(
            tenant_of_call(), parse_subject(request), readmit=request.readmit
        )
        response = pb.EraseUserResponse(
            retrainings=[operation_name(operation) for operation in erased.retrainings]
        )
        render_receipt(erased.receipt, response.receipt)
        return response

    async def VerifyErasure(
        self, request: pb.VerifyErasureRequest, context: _Context
    ) -> pb.VerifyErasureResponse:
        """Looks for a user in every store."""
        found = await self._privacy.verify(tenant_of_call(), parse_subject(request))
        return pb.VerifyErasureResponse(
            found=_counts(found.counts), clean=found.clean, refused=found.refused
        )

    async def ReadmitUser(
        self, request: pb.ReadmitUserRequest, context: _Context
    ) -> pb.ReadmitUserResponse:
        """Lifts the refusal of an erased user."""
        await self._privacy.readmit(tenant_of_call(), parse_subject(request))
        return pb.ReadmitUserResponse()

    async def GetErasureReceipt(
        self, request: pb.GetErasureReceiptRequest, context: _Context
    ) -> pb.GetErasureReceiptResponse:
        """A receipt of the tenant."""
        response = pb.GetErasureReceiptResponse()
        receipt = await self._privacy.receipt(tenant_of_call(), request.receipt_id)
        render_receipt(receipt, response.receipt)
        return response

    async def GetTenantErasureReceipt(
        self, request: pb.GetTenantErasureReceiptRequest, context: _Context
    ) -> pb.GetTenantErasureReceiptResponse:
        """The receipt of an erased tenant."""
        response = pb.GetTenantErasureReceiptResponse()
        render_receipt(await self._privacy.tenant_receipt(request.tenant_id), response.receipt)
        return response

    async def GetReceiptKey(
        self, request: pb.GetReceiptKeyRequest, context: _Context
    ) -> pb.GetReceiptKeyResponse:
        """The public key of receipts."""
        signer = self._privacy.signer
        return pb.GetReceiptKeyResponse(key_id=signer.key_id, public_key_pem=signer.public_key_pem)
