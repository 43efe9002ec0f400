"""The driver's errors become the domain's here, by SQLSTATE and constraint name."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg

from storage.exceptions import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PenchantError,
    StaleTenant,
    Unavailable,
)

RETRY_AFTER_SECS = 1.0
"""What callers are told to wait when PostgreSQL is away."""


def _away(message: str, reason: str = "DATABASE_UNAVAILABLE") -> PenchantError:
    return Unavailable(message, reason=reason, retry_after=RETRY_AFTER_SECS)


def _bad_text() -> PenchantError:
    return InvalidArgument(
        "A text holds a character that cannot be stored (NUL or an invalid one).",
        reason="INVALID_TEXT",
    )


_LOST = re.compile(r"\b(closed|closing|released back to the pool)\b")

_BY_CONSTRAINT: dict[str, Callable[[], PenchantError]] = {
    "tenants_pkey": lambda: AlreadyExists("The tenant id is taken.", reason="TENANT_EXISTS"),
}

_BY_STATE: dict[str, Callable[[], PenchantError]] = {
    "PC409": StaleTenant,
    "40001": Aborted,  # serialization_failure
    "40P01": Aborted,  # deadlock_detected
    "55P03": Aborted,  # lock_not_available
    "57014": lambda: DeadlineExceeded("The statement ran too long.", reason="QUERY_TIMEOUT"),
    "25006": lambda: _away("PostgreSQL accepts no writes now.", "DATABASE_READ_ONLY"),
    "53100": lambda: _away("PostgreSQL's disk is full.", "DATABASE_DISK_FULL"),
    "53200": lambda: _away("PostgreSQL is out of memory."),
    "53300": lambda: _away("PostgreSQL has no connection left.", "DATABASE_CONNECTIONS_EXHAUSTED"),
    "57P01": lambda: _away("PostgreSQL is stopping."),
    "57P02": lambda: _away("PostgreSQL crashed and is starting again."),
    "57P03": lambda: _away("PostgreSQL is starting or stopping."),
    "57P05": lambda: _away("PostgreSQL closed an idle connection."),
    "58030": lambda: _away("PostgreSQL cannot read or write its files."),
    "22021": _bad_text,
    "22P05": _bad_text,
}


def _server_error(error: asyncpg.PostgresError) -> PenchantError | None:
    known = _BY_CONSTRAINT.get(getattr(error, "constraint_name", None) or "")
    state = error.sqlstate or ""
    known = known or _BY_STATE.get(state)
    if known is not None:
        return known()
    return _away("The connection to PostgreSQL is lost.") if state.startswith("08") else None


def domain_error(error: BaseException) -> PenchantError | None:
    """The domain's error for one of the driver's; None when it is a bug and should stay one."""
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return Aborted("The schema changed under a prepared statement.")
    if isinstance(error, asyncpg.PostgresError):
        return _server_error(error)
    # The driver has no class of its own for a connection or pool that was closed under a call.
    lost = isinstance(error, asyncpg.InterfaceError) and _LOST.search(str(error))
    # And what it makes of a backend that ended between two statements is an internal error.
    if lost or isinstance(error, ConnectionError | asyncpg.InternalClientError):
        return _away("The connection to PostgreSQL is lost.")
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("The statement ran too long.", reason="QUERY_TIMEOUT")
    return None


def connect_error(error: BaseException) -> PenchantError | None:
    """Like `domain_error`, for what only happens while a connection is made."""
    if isinstance(error, TimeoutError):
        return _away("PostgreSQL does not answer.")
    if isinstance(error, OSError):  # no such host, no such socket, no route
        return _away("PostgreSQL cannot be reached.")
    if isinstance(
        error,
        asyncpg.InvalidAuthorizationSpecificationError
        | asyncpg.InvalidPasswordError
        | asyncpg.InvalidCatalogNameError
        | asyncpg.InsufficientPrivilegeError
        | asyncpg.InvalidParameterValueError
        | asyncpg.ClientConfigurationError,
    ):
        return FailedPrecondition(
            f"PostgreSQL refuses the connection: {error}.", reason="DATABASE_REFUSED"
        )
    return domain_error(error)


@contextmanager
def translated(
    translate: Callable[[BaseException], PenchantError | None] = domain_error,
) -> Iterator[None]:
    """A block out of which the driver's errors come as the domain's."""
    try:
        yield
    except PenchantError:
        raise
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
    ) as error:
        translation = translate(error)
        if translation is None:
            raise
        raise translation from error
