"""Requests a second: a token bucket a tenant in each worker, with its share of the rate."""

import math
import time
from collections.abc import Callable, Mapping

from storage.tenants import Quotas, Tenant

PRESSED_SECS = 0.1
"""Between looks at the shares of tenants that want much of their rate, or more."""
CALM_SECS = 0.5
"""Between looks at the shares of the others."""
SHARE_LIFE_SECS = 2.0
"""A share that is not renewed ends after that: then each worker has an equal one."""

_HALF_LIFE_SECS = 0.25
_LEAST_SHARE = 1e-6
_QUIET = 1e-3
_KEPT = 10_000
_PRUNE_SECS = 60.0


class TokenBucket:
    """Tokens that come at a rate and are kept up to a burst; a full one at first.

    What costs more than the burst is met by a full bucket, which then owes the rest.

    Args:
        rate: tokens a second, above 0.
        burst: the most that are kept, at least 1.
        now: seconds of any clock that does not go back.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def take(self, cost: float, now: float) -> float:
        """Takes tokens if there are enough: 0, or the seconds until there would be."""
        tokens = self.tokens(now)
        needed = min(cost, self.burst)
        if tokens >= needed:
            self._tokens = tokens - cost
            return 0.0
        return (needed - tokens) / self.rate

    def tokens(self, now: float) -> float:
        """How many there are; below 0 after something that cost more than the burst."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens

    def change(self, rate: float, burst: float, now: float) -> None:
        """Another rate and burst from now on; the tokens that are there stay, up to the burst."""
        self._tokens = min(self.tokens(now), burst)
        self.rate = rate
        self.burst = burst


class _Tenant:
    """A tenant's bucket here, and what its callers want."""

    __slots__ = ("arrived", "bucket", "counted_at", "live", "looked_at", "pressed", "quotas",
                 "share", "shared_until", "version", "wanted")  # fmt: skip

    def __init__(self, tenant: Tenant, share: float, now: float) -> None:
        self.version = tenant.version
        self.quotas = quotas = tenant.quotas
        self.share = share
        self.shared_until = math.inf
        self.bucket = TokenBucket(*_limits(quotas, share), now)
        self.arrived = 0.0
        self.wanted = 0.0
        self.counted_at = now
        self.looked_at = -math.inf
        self.pressed = False
        self.live = False

    def change(self, quotas: Quotas, share: float, now: float) -> None:
        self.quotas = quotas
        self.share = share
        self.bucket.change(*_limits(quotas, share), now)

    def count(self, now: float) -> None:
        """Folds what arrived into the average: what is older than half a second hardly counts."""
        past = now - self.counted_at
        if past > 0:
            kept = math.exp2(-past / _HALF_LIFE_SECS)
            self.wanted = self.wanted * kept + self.arrived / past * (1 - kept)
            self.arrived = 0.0
            self.counted_at = now


def _limits(quotas: Quotas, share: float) -> tuple[float, float]:
    share = max(share, _LEAST_SHARE)
    rate = quotas.requests_per_second
    burst = max(1.0, quotas.burst or rate)
    # No rate is no limit, and then the bucket is not asked.
    return (rate or 1.0) * share, max(1.0, burst * share)


class RequestRates:
    """Takes or refuses requests by their tenants' rates, with nothing but arithmetic.

    Each worker has a share of a tenant's rate and burst; the shares of all make at most one, so
    together they take no more than the rate allows. A share is an equal one until `share` says
    otherwise.

    Args:
        workers: among how many a rate is divided equally.
        clock: seconds, never going back.
    """

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._equal = 1 / workers
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._live: dict[str, _Tenant] = {}
        self._pruned_at = clock()

    def take(self, tenant: Tenant, cost: float = 1.0) -> float:
        """0 where the tenant may make a request of that cost now, else the seconds until it may."""
        known = self._tenants.get(tenant.tenant_id)
        if known is None:
            if not tenant.quotas.requests_per_second:
                return 0.0
            known = self._enter(tenant)
        elif tenant.version > known.version:
            self._change(known, tenant)
        if not known.quotas.requests_per_second:
            return 0.0
        known.arrived += cost
        if not known.live:
            known.live = True
            self._live[tenant.tenant_id] = known
        wait = known.bucket.take(cost, self._clock())
        if wait:
            known.pressed = True
        return wait

    def due(self) -> dict[str, tuple[float, float]]:
        """The tenants whose shares should be looked at now, and then are.

        Returns:
            By tenant its rate, and what this worker's callers want of it, both a second.
        """
        now = self._clock()
        wanted = {}
        for tenant_id, known in self._live.items():
            rate = known.quotas.requests_per_second
            hurried = known.pressed or known.wanted > rate / 2
            if now - known.looked_at < (PRESSED_SECS * 0.9 if hurried else CALM_SECS):
                continue
            known.count(now)
            known.looked_at = now
            if known.pressed or known.wanted > rate * _QUIET:
                wanted[tenant_id] = (rate, known.wanted)
            known.pressed = False
        return wanted

    def share(self, shares: Mapping[str, float], asked_at: float) -> None:
        """Sets shares (0 to 1) by tenant, as they were asked for at a time of the clock."""
        now = self._clock()
        for tenant_id, share in shares.items():
            known = self._tenants.get(tenant_id)
            if known is not None:
                known.change(known.quotas, share, now)
                known.shared_until = asked_at + SHARE_LIFE_SECS

    def lapse(self) -> None:
        """Ends shares that were not renewed, and forgets tenants that have long been quiet."""
        now = self._clock()
        for tenant_id, known in list(self._live.items()):
            if now >= known.shared_until:
                known.shared_until = math.inf
                known.change(known.quotas, self._equal, now)
            quiet = not known.arrived and known.wanted <= known.quotas.requests_per_second * _QUIET
            if quiet and known.shared_until == math.inf:
                known.live = False
                del self._live[tenant_id]
        if now - self._pruned_at >= _PRUNE_SECS:
            self._prune(now)

    def know(self, tenant: Tenant) -> None:
        """Goes by a tenant's row from now on, where it is a newer one."""
        known = self._tenants.get(tenant.tenant_id)
        if known is not None and tenant.version > known.version:
            self._change(known, tenant)

    def _change(self, known: _Tenant, tenant: Tenant) -> None:
        known.version = tenant.version
        if known.quotas != tenant.quotas:
            known.change(tenant.quotas, known.share, self._clock())

    def _enter(self, tenant: Tenant) -> _Tenant:
        now = self._clock()
        if len(self._tenants) >= _KEPT:
            self._prune(now)
        known = _Tenant(tenant, self._equal, now)
        self._tenants[tenant.tenant_id] = known
        return known

    def _prune(self, now: float) -> None:
        """Forgets those whose bucket is full and undivided: a new one would be like it."""
        self._pruned_at = now
        self._tenants = {
            tenant_id: known
            for tenant_id, known in self._tenants.items()
            if known.shared_until != math.inf or known.bucket.tokens(now) < known.bucket.burst
        }
