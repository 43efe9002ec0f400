"""Who a call is for, and the tenant's row that its statements are checked against."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from engine.identifiers import check_tenant_id
from storage.exceptions import (
    Aborted,
    InvalidArgument,
    PenchantError,
    StaleTenant,
    Unavailable,
)
from storage.tenants import Tenant, TenantStore

T = TypeVar("T")

TENANT_HEADER = "x-tenant-id"
_ATTEMPTS = 6
_KEPT = 10_000
_ONLY_TENANT_SECS = 1.0


class TenantDirectory:
    """Tenants by id, as this worker last read them.

    A row may be old: every statement checks its version in PostgreSQL (StaleTenant), so `run` reads
    it again and repeats. Nothing here needs a time to live.
    """

    def __init__(self, store: TenantStore) -> None:
        self._store = store
        self._known: dict[str, Tenant] = {}
        self._only: tuple[float, str] | None = None

    async def resolve(self, tenant_id: str | None) -> Tenant:
        """The tenant of a call.

        Args:
            tenant_id: as the metadata key says; None where it is absent: then the only tenant.

        Raises:
            InvalidArgument: malformed, or absent while there is not exactly one tenant.
            NotFound: there is no such tenant.
        """
        if tenant_id is None:
            return await self.get(await self._only_tenant())
        return await self.get(check_tenant_id(tenant_id, TENANT_HEADER))

    async def get(self, tenant_id: str) -> Tenant:
        """A tenant by id; NotFound when there is none."""
        known = self._known.get(tenant_id)
        return known if known is not None else await self._read(tenant_id)

    def known(self, tenant_id: str | bytes | None) -> Tenant | None:
        """A tenant whose row was read before, as `resolve` gives it; None: ask `resolve`.

        Args:
            tenant_id: in bytes it is no text, and nobody's.
        """
        if tenant_id is None:
            if self._only is None or time.monotonic() >= self._only[0]:
                return None
            tenant_id = self._only[1]
        return self._known.get(tenant_id) if isinstance(tenant_id, str) else None

    async def reread(self, tenant_id: str) -> Tenant:
        """A tenant as it is in PostgreSQL now, from now on known; NotFound when there is none."""
        return await self._read(tenant_id)

    async def run(self, tenant: Tenant, work: Callable[[Tenant], Awaitable[T]]) -> T:
        """Does work for a tenant, again with the tenant's new row when it has changed meanwhile.

        The work must be one transaction, or safe to repeat.

        Raises:
            StaleTenant, Aborted: it changed again and again.
            NotFound: the tenant is gone.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return await work(tenant)
            except StaleTenant:
                if attempt == _ATTEMPTS - 1:
                    raise
                tenant = await self._read(tenant.tenant_id)
            except Aborted:
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable")

    async def _read(self, tenant_id: str) -> Tenant:
        try:
            tenant = await self._store.get(tenant_id)
        except PenchantError as error:
            # While PostgreSQL is away, what was known is what last good answers are given for.
            if not isinstance(error, Unavailable):
                self._known.pop(tenant_id, None)
            raise
        if len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[tenant_id] = tenant
        return tenant

    async def _only_tenant(self) -> str:
        now = time.monotonic()
        if self._only is not None and now < self._only[0]:
            return self._only[1]
        try:
            count, tenant_id = await self._store.only()
        except Unavailable:
            if self._only is None:
                raise
            return self._only[1]
        if count != 1 or tenant_id is None:
            self._only = None
            raise InvalidArgument.field(
                TENANT_HEADER,
                "this metadata key must name the tenant: "
                + ("there are several" if count else "there is none yet; create one"),
                reason="TENANT_REQUIRED",
            )
        self._only = (now + _ONLY_TENANT_SECS, tenant_id)
        return tenant_id
