"""The domain's exceptions: a small tree that every layer raises and one table of the server maps.

An exception's class decides the gRPC status (`server/errors.py`), its `reason` is the stable word
of ErrorInfo that callers may branch on, and its `violations` name the request's fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is wrong: its path as in the proto, and why, in one sentence."""

    field: str
    description: str


class PenchantError(Exception):
    """Something went wrong.

    Args:
        message: one sentence for a person; the class's docstring when absent.
        reason: UPPER_SNAKE word for ErrorInfo; the class's default when absent.
        violations: the fields at fault.
        metadata: further facts for ErrorInfo (short text values, never secrets).
        retry_after: seconds after which the same call may succeed, where that is known.
    """

    reason = "INTERNAL"

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        doc = (type(self).__doc__ or "").strip().splitlines()
        self.message = message or (doc[0] if doc else type(self).__name__)
        super().__init__(self.message)
        if reason is not None:
            self.reason = reason
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidArgument(PenchantError):
    """The request is wrong in itself."""

    reason = "INVALID_ARGUMENT"

    @classmethod
    def field(cls, field: str, description: str, *, reason: str | None = None) -> "InvalidArgument":
        """The error for one field: the message is `field: description`."""
        return cls(
            f"{field}: {description}",
            reason=reason,
            violations=[FieldViolation(field, description)],
        )


class Unimplemented(PenchantError):
    """The request asks for something that this version does not do yet."""

    reason = "UNIMPLEMENTED"


class Unauthenticated(PenchantError):
    """The call does not say whose it is."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(PenchantError):
    """The caller may not do this."""

    reason = "PERMISSION_DENIED"


class NotFound(PenchantError):
    """There is no such thing."""

    reason = "NOT_FOUND"


class AlreadyExists(PenchantError):
    """The name is taken by something different."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(PenchantError):
    """The state of things does not allow this call now."""

    reason = "FAILED_PRECONDITION"


class Aborted(PenchantError):
    """Another call changed the same thing at the same time; trying again may succeed."""

    reason = "ABORTED"


class StaleTenant(Aborted):
    """The tenant's row has changed since the caller read it: read it again and repeat."""

    reason = "STALE_TENANT"


class ResourceExhausted(PenchantError):
    """A limit is reached."""

    reason = "RESOURCE_EXHAUSTED"


class QuotaExceeded(ResourceExhausted):
    """The tenant uses as much as it may.

    Args:
        tenant_id: who.
        quota: the name of the limit, as in `Quotas`.
        limit: what it may use.
        message: one sentence for a person.
        retry_after: seconds after which trying again makes sense.
        logged: whether the log shall have a line of it; of many alike not every one.
    """

    reason = "QUOTA_EXCEEDED"

    def __init__(
        self,
        tenant_id: str = "",
        quota: str = "",
        limit: float = 0.0,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        logged: bool = True,
    ) -> None:
        super().__init__(
            message,
            metadata={"tenant_id": tenant_id, "quota": quota, "limit": f"{limit:.10g}"},
            retry_after=retry_after,
        )
        self.tenant_id = tenant_id
        self.quota = quota
        self.logged = logged


class DeadlineExceeded(PenchantError):
    """The caller's deadline is over."""

    reason = "DEADLINE_EXCEEDED"


class Unavailable(PenchantError):
    """A part that this call needs cannot be reached now."""

    reason = "UNAVAILABLE"


class MigrationError(FailedPrecondition):
    """The schema cannot be brought to the asked version."""

    reason = "MIGRATION_FAILED"


class VersionMissing(MigrationError):
    """A migration was applied that this checkout does not have."""

    reason = "MIGRATION_VERSION_MISSING"


class VersionMismatch(MigrationError):
    """A migration was changed after it had been applied."""

    reason = "MIGRATION_VERSION_MISMATCH"


class Dirty(MigrationError):
    """A migration without transaction failed half way and must be repaired by hand."""

    reason = "MIGRATION_DIRTY"


class PgvectorMissing(MigrationError):
    """PostgreSQL offers no pgvector that is new enough."""

    reason = "PGVECTOR_MISSING"
