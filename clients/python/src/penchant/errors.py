"""What a call raises: one class per status code, with the details that the service sent along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from penchant.v1.common_pb2 import RowError as RowErrorMessage

_REQUEST_ID = "x-request-id"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of the request that is wrong: its path as in the proto, and why."""

    field: str
    description: str


class PenchantError(Exception):
    """A call failed; the subclasses stand for one status code each.

    Attributes:
        code: the status code.
        message: one sentence for a person.
        reason: the stable word of penchant.v1.ErrorReason, without its prefix; empty when the
            error did not come from the service (no connection, a deadline of this side).
        field_violations: the fields of the request at fault.
        metadata: further facts that the service gave, such as "position" for a filter.
        retry_after: seconds after which the same call may succeed; None when unknown.
        request_id: what the service's log calls this call; None when it sent none.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        field_violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.field_violations = tuple(field_violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"


class Cancelled(PenchantError):
    """The service gave the call up."""

    default_code = grpc.StatusCode.CANCELLED


class InvalidArgument(PenchantError):
    """The request is wrong in itself; `field_violations` names the fields."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(PenchantError):
    """No answer came within the timeout; the call may or may not have had its effect."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotFound(PenchantError):
    """There is no such thing."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(PenchantError):
    """The name is taken by something different."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDenied(PenchantError):
    """The caller may not do this."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhausted(PenchantError):
    """A limit is reached; `retry_after` says when to try again."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPrecondition(PenchantError):
    """The state of things does not allow this call now (such as an expired page token)."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(PenchantError):
    """Other calls changed the same thing at the same time; trying again may succeed."""

    default_code = grpc.StatusCode.ABORTED


class Unimplemented(PenchantError):
    """The service does not do this in its version."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class Internal(PenchantError):
    """A fault of the service, found in its log by `request_id`."""

    default_code = grpc.StatusCode.INTERNAL


class Unavailable(PenchantError):
    """The service cannot be reached or cannot serve now."""

    default_code = grpc.StatusCode.UNAVAILABLE


class Unauthenticated(PenchantError):
    """The call does not say whose it is: no tenant or no valid key."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


_CODES = {int(code.value[0]): code for code in grpc.StatusCode}
_CLASSES = {subclass.default_code: subclass for subclass in PenchantError.__subclasses__()}


class _EndedCall(Protocol):
    """What grpc.RpcError is on both sides: grpc.Call and grpc.aio.AioRpcError."""

    def code(self) -> grpc.StatusCode | None: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...


def status_code(number: int) -> grpc.StatusCode:
    """The status code of a google.rpc.Code number; UNKNOWN for numbers that are none."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def from_rpc_error(error: grpc.RpcError) -> PenchantError:
    """The PenchantError that says what `error` says, with its google.rpc.Status details."""
    call = cast(_EndedCall, error)
    code = call.code() or grpc.StatusCode.UNKNOWN
    known = _known(code, call.details() or code.name, _status(call))
    known.request_id = known.request_id or _trailing_request_id(call)
    return known


def from_status(status: status_pb2.Status) -> PenchantError:
    """The error that a message carries, such as that of an operation."""
    code = status_code(status.code)
    return _known(code, status.message or code.name, status)


def _known(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> PenchantError:
    info, request_id = error_details_pb2.ErrorInfo(), None
    violations: list[FieldViolation] = []
    retry_after = None
    for detail in status.details:
        request, retry = error_details_pb2.RequestInfo(), error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations += [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Unpack(request):
            request_id = request.request_id
        else:
            detail.Unpack(info)
    return _CLASSES.get(code, PenchantError)(
        message,
        code=code,
        reason=info.reason,
        field_violations=violations,
        metadata=info.metadata,
        retry_after=retry_after,
        request_id=request_id or info.metadata.get("request_id"),
    )


def from_row_error(row: RowErrorMessage) -> PenchantError:
    """The error that one request of a batch would have ended with alone."""
    code = status_code(row.code)
    violations = [FieldViolation(row.field, row.message)] if row.field else []
    return _CLASSES.get(code, PenchantError)(
        row.message, code=code, reason=row.reason, field_violations=violations
    )


def _status(call: _EndedCall) -> status_pb2.Status:
    try:
        status = rpc_status.from_call(cast(grpc.Call, call))
    except (ValueError, DecodeError):
        # a proxy between us may change code or message; the plain status still holds
        status = None
    return status or status_pb2.Status()


def _trailing_request_id(call: _EndedCall) -> str | None:
    for key, value in call.trailing_metadata() or ():
        if key == _REQUEST_ID:
            return value.decode() if isinstance(value, bytes) else value
    return None
