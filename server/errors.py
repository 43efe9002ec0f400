"""The one table from the domain's exceptions to what goes over the wire."""

import functools
import math
from collections.abc import Iterator

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import StatusCode
from penchant.v1.common_pb2 import RowError
from penchant.v1.error_reason_pb2 import ErrorReason

from storage import exceptions as domain

DOMAIN = "penchant"
"""ErrorInfo.domain of every error."""

INTERNAL_MESSAGE = "Something went wrong in the service; its log has more under the request id."

_INTERNAL = StatusCode.INTERNAL

STATUS_CODES: dict[type[domain.PenchantError], StatusCode] = {
    domain.PenchantError: StatusCode.INTERNAL,
    domain.InvalidArgument: StatusCode.INVALID_ARGUMENT,
    domain.Unimplemented: StatusCode.UNIMPLEMENTED,
    domain.Unauthenticated: StatusCode.UNAUTHENTICATED,
    domain.PermissionDenied: StatusCode.PERMISSION_DENIED,
    domain.NotFound: StatusCode.NOT_FOUND,
    domain.AlreadyExists: StatusCode.ALREADY_EXISTS,
    domain.FailedPrecondition: StatusCode.FAILED_PRECONDITION,
    domain.Aborted: StatusCode.ABORTED,
    domain.ResourceExhausted: StatusCode.RESOURCE_EXHAUSTED,
    domain.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    domain.Unavailable: StatusCode.UNAVAILABLE,
}
"""Codes by class; a class that is not listed has its nearest base's."""

_REASONS = frozenset(
    name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name
)

# grpc takes 8 KiB of trailing metadata. A message stands in it twice, once percent-encoded (three
# bytes for one of UTF-8), and the details in base64.
_MAX_MESSAGE_BYTES = 512
_MAX_TEXT_BYTES = 256
_MAX_DETAILS_BYTES = 3072


def status_code(error: BaseException) -> StatusCode:
    """The code of an exception: INTERNAL for one that is no error of the domain."""
    return next((STATUS_CODES[c] for c in type(error).__mro__ if c in STATUS_CODES), _INTERNAL)


def reason_of(error: domain.PenchantError) -> str:
    """The error's reason where callers may know it from error_reason.proto, else its class's."""
    return error.reason if error.reason in _REASONS else type(error).reason


def domain_error(error: BaseException) -> domain.PenchantError | None:
    """The domain's error that an exception is, or that a task group wrapped; None: a fault.

    A group counts as its first error when all in it are the domain's.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [domain_error(inner) for inner in error.exceptions]
        return found[0] if all(one is not None for one in found) else None
    if isinstance(error, domain.PenchantError) and status_code(error) is not _INTERNAL:
        return error
    return None


def to_status(error: BaseException, request_id: str) -> status_pb2.Status:
    """What the caller is told.

    ErrorInfo always; BadRequest where fields are at fault, RetryInfo where a time is known,
    QuotaFailure where a tenant has used up what it may. Of an exception that is no error of the
    domain nothing is told but the request id.
    """
    known = domain_error(error)
    if isinstance(known, domain.QuotaExceeded):
        # Whoever is refused is mostly refused often, and that must cost others little.
        return _quota_status(
            known.tenant_id, known.quota, known.metadata["limit"], known.message, known.retry_after
        )
    if known is None:
        info = error_details_pb2.ErrorInfo(
            reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id}
        )
        return status_pb2.Status(
            code=_number(_INTERNAL), message=INTERNAL_MESSAGE, details=[_packed(info)]
        )
    return _status(known)


@functools.lru_cache(maxsize=1024)
def _quota_status(
    tenant_id: str, quota: str, limit: str, message: str, retry_after: float | None
) -> status_pb2.Status:
    return _status(
        domain.QuotaExceeded(tenant_id, quota, float(limit), message, retry_after=retry_after)
    )


def _status(error: domain.PenchantError) -> status_pb2.Status:
    status = status_pb2.Status(
        code=_number(status_code(error)), message=_cut(error.message, _MAX_MESSAGE_BYTES)
    )
    status.details.extend(_details(error))
    return status


def row_error(index: int, error: BaseException) -> RowError:
    """How one row of a batch failed, as a call with that row alone would have."""
    known = domain_error(error)
    if known is None:
        return RowError(
            index=index, code=_number(_INTERNAL), reason="INTERNAL", message=INTERNAL_MESSAGE
        )
    return RowError(
        index=index,
        code=_number(status_code(known)),
        reason=reason_of(known),
        field=_clean(known.violations[0].field) if known.violations else "",
        message=_cut(known.message, _MAX_MESSAGE_BYTES),
    )


def _details(error: domain.PenchantError) -> Iterator[AnyMessage]:
    yield _packed(
        error_details_pb2.ErrorInfo(
            reason=reason_of(error),
            domain=DOMAIN,
            metadata={key: _cut(text, _MAX_TEXT_BYTES) for key, text in error.metadata.items()},
        )
    )
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(math.ceil(error.retry_after * 1e9))
        yield _packed(retry)
    if isinstance(error, domain.QuotaExceeded):
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(
            subject=f"tenant:{error.tenant_id}",
            description=_cut(f"{error.quota}: {error.message}", _MAX_TEXT_BYTES),
        )
        yield _packed(failure)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            if bad.ByteSize() > _MAX_DETAILS_BYTES:
                break
            bad.field_violations.add(
                field=_cut(violation.field, _MAX_TEXT_BYTES),
                description=_cut(violation.description, _MAX_TEXT_BYTES),
            )
        yield _packed(bad)


def _packed(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.RetryInfo
    | error_details_pb2.QuotaFailure
    | error_details_pb2.BadRequest,
) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _number(code: StatusCode) -> int:
    number: int = code.value[0]
    return number


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _cut(text: str, most: int) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most:
        return encoded.decode()
    return encoded[: most - 3].decode("utf-8", "ignore") + "…"
