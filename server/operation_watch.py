"""Following an operation that a process elsewhere runs."""

import time
from collections.abc import AsyncGenerator

from engine.trainings import Trainings
from server.call import current_call
from storage.operations import Operation
from storage.tenants import Tenant

POLL_SECS = 0.25
_ANSWER_SECS = 0.25


async def changes(
    trainings: Trainings, tenant: Tenant, operation_id: str
) -> AsyncGenerator[Operation, None]:
    """The operation at once and at every change, until it is done.

    Raises:
        NotFound: there is none (OPERATION_NOT_FOUND).
        Unavailable: the worker drains (SHUTTING_DOWN).
    """
    seen = await trainings.get(tenant, operation_id)
    yield seen
    while not seen.done:
        await current_call().admission.pause(POLL_SECS)
        now = await trainings.get(tenant, operation_id)
        if now != seen:
            yield now
        seen = now


async def wait(
    trainings: Trainings, tenant: Tenant, operation_id: str, seconds: float | None
) -> Operation:
    """The operation once it is done, or as it stands when the time is over.

    Args:
        seconds: how long to wait; None: as long as the call may take. Never longer than that.
    """
    limits = (seconds, current_call().time_left())
    left, call_left = (float("inf") if limit is None else limit for limit in limits)
    until = time.monotonic() + min(left, call_left - _ANSWER_SECS)
    operation = await trainings.get(tenant, operation_id)
    while not operation.done and (pause := min(POLL_SECS, until - time.monotonic())) > 0:
        await current_call().admission.pause(pause)
        operation = await trainings.get(tenant, operation_id)
    return operation
