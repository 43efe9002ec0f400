"""The call that the running task serves."""

import time
from contextvars import ContextVar
from dataclasses import dataclass

from google.protobuf.message import Message

from engine.access import ANONYMOUS, Principal
from engine.identifiers import is_tenant_id
from server.admission import Admission
from server.quotas import RequestQuotas
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
        tenant_id: text of the metadata key x-tenant-id, else the key's or whom the request names;
            None when there is none.
        tenant: whom it is for, in services that act for one tenant.
        principal: who calls.
        asked: the request, or the first of a stream, where the call is audited.
        quotas: the tenants' quotas of requests; None: they have none.
        raw: the request as it came, where answers are kept by it.
    """

    request_id: str
    method: str
    peer: str
    admission: Admission
    deadline: float | None = None
    tenant_id: str | None = None
    tenant: Tenant | None = None
    principal: Principal = ANONYMOUS
    asked: Message | None = None
    quotas: RequestQuotas | None = None
    raw: bytes | None = None

    @property
    def shown_tenant(self) -> str | None:
        """The tenant's id for logs and audit; a text that is no such id may be anything: None."""
        if self.tenant is not None:
            return self.tenant.tenant_id
        known = self.tenant_id is not None and is_tenant_id(self.tenant_id)
        return self.tenant_id if known else None

    def charge(self, cost: int) -> None:
        """Counts further requests that the call turned out to hold.

        Raises:
            QuotaExceeded: requests_per_second.
        """
        if self.quotas is not None and self.tenant is not None and cost > 0:
            self.quotas.take(self.tenant, cost)

    async def turn(self) -> None:
        """Waits until the tenant may make one more request: before each message of a stream.

        Raises:
            Unavailable: the worker drains (SHUTTING_DOWN).
        """
        if self.quotas is not None and self.tenant is not None:
            await self.quotas.turn(self.tenant, self.admission)

    def forget(self) -> None:
        """Lets go of what was asked: timers of what the call began may hold the call for long."""
        self.raw = self.asked = None

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
