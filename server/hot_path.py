"""Calls that are answered from the worker's own cache: no waiting, no parsing, nothing is made.

What decides whether a caller may have the answer is asked here as it is at the edge (server.edge):
drain, credentials, scope, tenant, quota. Whatever is not plainly in order goes the ordinary way,
which finds the right error; the caller cannot tell the ways apart.
"""

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import grpc

from engine.access import ANONYMOUS, Principal
from engine.tenants import TENANT_HEADER
from server.admission import Admission
from server.authentication import API_KEY_KEY, AUTHORIZATION_KEY
from server.call import Call
from server.handlers import Metadata
from server.quotas import RequestQuotas
from server.request_ids import REQUEST_ID_KEY, request_id_of
from server.wire_cache import WireCache
from storage.tenants import Tenant

_HOLDS_SECS = 0.5
"""Within a second a key that was revoked must have ended."""

_REMEMBERED_SECS = 0.1
"""For how long calls that bring the same metadata are known to be of the same caller; part of
`_HOLDS_SECS`."""

_REMEMBERED = 256  # callers

_CREDENTIALS = frozenset({AUTHORIZATION_KEY, API_KEY_KEY})

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Asked: TypeAlias = tuple[str | bytes | None, Principal, str | bytes | None, float]
"""The tenant's id if it is known, who asks, what the caller calls the call, and when that was found
out, by the monotonic clock."""


class Callers(Protocol):
    """Knows callers without waiting."""

    @property
    def edition(self) -> int:
        """Another one whenever the keys that work are others."""
        ...

    def known(self, key: str | None, text: str | bytes | None) -> Principal | None:
        """Whose credential this is; None: the ordinary way has to find out."""
        ...


class Tenants(Protocol):
    """Knows tenants without waiting."""

    def known(self, tenant_id: str | bytes | None) -> Tenant | None:
        """The tenant as last read; None: the ordinary way has to find out."""
        ...


@dataclass(slots=True)  # one is made at every call, and a frozen one takes four times as long
class Known:
    """What is known of a call before it is one.

    Attributes:
        tenant, principal: who calls for whom, and may.
        given_id: what the caller calls its call; None: nothing.
        wait: seconds until the tenant's quota allows a call; 0: it allows this one, and has
            counted it; None: it was not asked.
        at: since when, by the monotonic clock.
    """

    tenant: Tenant
    principal: Principal
    given_id: str | bytes | None
    wait: float | None
    at: float
    _request_id: str | None = None

    @property
    def request_id(self) -> str:
        """The caller's id of the call, or one made here."""
        if self._request_id is None:
            self._request_id = request_id_of(self.given_id)
        return self._request_id

    @property
    def holds(self) -> bool:
        """Whether it may still be gone by: a message may come long after its call was begun."""
        return time.monotonic() - self.at < _HOLDS_SECS


KNOWN: ContextVar[Known | None] = ContextVar("penchant_known", default=None)
"""Of the running call, as the door found it."""


class HotPath:
    """Looks answers of one method up.

    Args:
        cache: the answers.
        tenants, callers: who calls, and for whom; callers None: everybody is anonymous.
        quotas: refuses tenants that call too often; None: nobody.
    """

    def __init__(
        self,
        cache: WireCache,
        tenants: Tenants,
        *,
        callers: Callers | None = None,
        quotas: RequestQuotas | None = None,
    ) -> None:
        self._cache = cache
        self._tenants = tenants
        self._callers = callers
        self._quotas = quotas
        self._remembered: dict[Metadata, Asked] = {}
        self._edition = 0

    def know(self, metadata: Metadata, scope: str, admission: Admission) -> Known | None:
        """Who calls; None: the ordinary way has to find it out.

        A worker that is full asks no quota: what it refuses uses none up.
        """
        if admission.draining:
            return None
        if self._callers is not None and self._callers.edition != self._edition:
            self._edition = self._callers.edition
            self._remembered.clear()
        now = time.monotonic()
        found = self._remembered.get(metadata)
        if found is None or now - found[3] >= _REMEMBERED_SECS:
            found = self._who_asks(metadata, now)
            if found is None:
                return None
        tenant_id, principal, given_id, at = found
        tenant = self._tenants.known(tenant_id)
        if tenant is None or principal.tenant_id not in {None, tenant.tenant_id}:
            return None
        if scope not in principal.scopes:
            return None
        known = Known(tenant, principal, given_id, None, at)
        if not admission.is_full:
            self.charge(known)
        return known

    def charge(self, known: Known) -> float:
        """Seconds until the quota of a call's tenant allows it; counts it where it does now."""
        if known.wait is None:
            known.wait = 0.0 if self._quotas is None else self._quotas.wait(known.tenant)
        return known.wait

    def ready(self, known: Known, raw: bytes) -> bytes | None:
        """The answer to a request as it came, where it lies ready."""
        return self._cache.get((known.tenant.tenant_id, raw))

    def _who_asks(self, metadata: Metadata, now: float) -> Asked | None:
        tenant_id = key = text = given_id = None
        for name, value in metadata:
            if name == TENANT_HEADER and tenant_id is None:
                tenant_id = value
            elif name in _CREDENTIALS and key is None:
                key, text = name, value
            elif name == REQUEST_ID_KEY:
                given_id = value
            elif name == TENANT_HEADER or name in _CREDENTIALS:
                return None  # given twice
        principal = ANONYMOUS if self._callers is None else self._callers.known(key, text)
        if principal is None:
            return None
        asked = (principal.tenant_id if tenant_id is None else tenant_id, principal, given_id, now)
        # A call that has an id of its own comes once.
        if given_id is None and len(self._remembered) < _REMEMBERED:
            if not self._remembered:
                # No credential is to lie here longer than it is of use.
                loop = asyncio.get_running_loop()
                loop.call_later(_REMEMBERED_SECS, self._remembered.clear)
            self._remembered[metadata] = asked
        return asked

    @staticmethod
    def call_of(known: Known, method: str, context: Context, admission: Admission) -> Call:
        """The call as the log wants it."""
        return Call(
            known.request_id,
            method,
            context.peer(),
            admission,
            tenant=known.tenant,
            principal=known.principal,
        )
