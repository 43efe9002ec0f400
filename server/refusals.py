"""Refusals that many calls get alike: made once, given without an exception.

A flood of refused calls is paid for by the others. An exception costs half as much again as
setting the code, and making the status of the domain's error as much as gRPC takes to send it.
"""

from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import grpc

from server.errors import reason_of, status_code, to_status
from server.request_ids import REQUEST_ID_KEY
from storage.exceptions import PenchantError

DETAILS_KEY = "grpc-status-details-bin"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status as gRPC wants it.

    Attributes:
        code: of gRPC.
        message: for a person.
        details: the serialised google.rpc.Status.
        reason: as in its ErrorInfo.
    """

    code: grpc.StatusCode
    message: str
    details: bytes
    reason: str

    @classmethod
    def of(cls, error: PenchantError) -> Self:
        """What the callers are told of an error."""
        status = to_status(error, "")
        return cls(status_code(error), status.message, status.SerializeToString(), reason_of(error))

    def give(self, context: Context, request_id: str) -> bytes:
        """Ends a call with it; the answer that its handler is to return."""
        context.set_code(self.code)
        context.set_details(self.message)
        context.set_trailing_metadata(((DETAILS_KEY, self.details), (REQUEST_ID_KEY, request_id)))
        return b""
