"""Requests a second of tenants, at the edge of one worker."""

import asyncio
import functools
import math
import time
from collections.abc import Awaitable, Callable

from engine.rate import RequestRates
from server.admission import Admission
from server.refusals import Refusal
from storage.exceptions import PenchantError, QuotaExceeded
from storage.tenants import Tenant

REQUESTS_PER_SECOND = "requests_per_second"

_NOTICE_SECS = 1.0
_LONGEST_RETRY_SECS = 60.0
_KEPT = 1_000


class RequestQuotas:
    """Takes or refuses the calls of tenants by their quota of requests.

    Args:
        rates: this worker's buckets.
        reread: reads a tenant's row anew. A refused call reaches no statement that would notice
            a change of the row, so it is read again at most once a second while calls are refused.
    """

    def __init__(
        self, rates: RequestRates, reread: Callable[[str], Awaitable[Tenant]] | None = None
    ) -> None:
        self._rates = rates
        self._reread = reread
        self._noticed: dict[str, float] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def take(self, tenant: Tenant, cost: float = 1.0) -> None:
        """Takes a call of a tenant.

        Args:
            cost: how many requests it is.

        Raises:
            QuotaExceeded: requests_per_second.
        """
        wait = self._rates.take(tenant, cost)
        if wait:
            retry, limit = _terms(tenant, wait)
            raise _exceeded(tenant.tenant_id, limit, retry, logged=self.notice(tenant))

    def wait(self, tenant: Tenant) -> float:
        """Takes a call of a tenant and is 0, or seconds until its quota allows one."""
        return self._rates.take(tenant)

    def refusal(self, tenant: Tenant, wait: float) -> Refusal:
        """What a call is told that would have to wait so many seconds."""
        retry, limit = _terms(tenant, wait)
        return _refusal(tenant.tenant_id, limit, retry)

    async def turn(self, tenant: Tenant, admission: Admission) -> None:
        """Waits until a tenant may make one more request: for messages of a stream.

        Raises:
            Unavailable: the worker drains (SHUTTING_DOWN).
        """
        while wait := self._rates.take(tenant):
            self.notice(tenant)
            await admission.pause(min(wait, _NOTICE_SECS))

    def notice(self, tenant: Tenant) -> bool:
        """Of a refusal: has the row read anew; whether this is the first for a while."""
        now = time.monotonic()
        if now - self._noticed.get(tenant.tenant_id, -math.inf) < _NOTICE_SECS:
            return False
        if len(self._noticed) >= _KEPT:
            self._noticed.clear()
        self._noticed[tenant.tenant_id] = now
        if self._reread is not None:
            task = asyncio.create_task(self._read(self._reread, tenant.tenant_id))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        return True

    async def _read(self, reread: Callable[[str], Awaitable[Tenant]], tenant_id: str) -> None:
        try:
            self._rates.know(await reread(tenant_id))
        except PenchantError:
            # Gone, or PostgreSQL is away: the next call that is taken says so.
            return


def _terms(tenant: Tenant, wait: float) -> tuple[float, float]:
    # In whole tenths: those who come back should not come one by one.
    retry = min(math.ceil(wait * 10) / 10, _LONGEST_RETRY_SECS)
    return retry, tenant.quotas.requests_per_second


@functools.lru_cache(maxsize=1024)
def _refusal(tenant_id: str, limit: float, retry: float) -> Refusal:
    return Refusal.of(_exceeded(tenant_id, limit, retry))


def _exceeded(tenant_id: str, limit: float, retry: float, *, logged: bool = True) -> QuotaExceeded:
    return QuotaExceeded(
        tenant_id,
        REQUESTS_PER_SECOND,
        limit,
        f"The tenant may make {limit:,.10g} requests a second.",
        retry_after=retry,
        logged=logged,
    )
