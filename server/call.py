"""The call that the running task serves."""

import time
from contextvars import ContextVar
from dataclasses import dataclass

from server.admission import Admission
from storage.exceptions import InvalidArgument
from storage.tenants import Tenant


@dataclass(slots=True)
class Call:
    """What the edge knows of one call.

    Attributes:
        request_id: the caller's, or made here; in the log and in the trailing metadata.
        method: as on the wire, `/package.Service/Method`.
        peer: the caller's address as grpc writes it.
        admission: tells whether the worker drains; calls that wait for long end then.
        deadline: monotonic time at which the call ends; None: never.
        tenant_id: text of the metadata key x-tenant-id; None when absent.
        tenant: whom it is for, in services that act for one tenant.
    """

    request_id: str
    method: str
    peer: str
    admission: Admission
    deadline: float | None = None
    tenant_id: str | None = None
    tenant: Tenant | None = None

    def time_left(self) -> float | None:
        """Seconds until the deadline, at least 0; None when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


CURRENT_CALL: ContextVar[Call] = ContextVar("penchant_call")


def current_call() -> Call:
    """The call that this task, or the task it was started from, serves.

    Raises:
        LookupError: it serves none.
    """
    return CURRENT_CALL.get()


def tenant_of_call() -> Tenant:
    """The tenant that the current call is for.

    Raises:
        InvalidArgument: the method acts for no tenant.
    """
    tenant = current_call().tenant
    if tenant is None:
        raise InvalidArgument.field("x-tenant-id", "is required", reason="TENANT_REQUIRED")
    return tenant
