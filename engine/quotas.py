"""What tenants may use: set by operators, and told beside what they use."""

import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

from engine.identifiers import check_tenant_id
from engine.tenants import TenantDirectory
from storage.exceptions import InvalidArgument
from storage.quotas import QuotaStore, QuotaUsage
from storage.tenants import Quotas

_FRESH = timedelta(seconds=60)
_LARGEST = 1e12


def check_quotas(quotas: Quotas) -> Quotas:
    """Limits that make sense.

    Raises:
        InvalidArgument: one is negative, not finite or too large, or less than one may come.
    """
    for each in fields(quotas):
        value = getattr(quotas, each.name)
        if not math.isfinite(value) or value < 0:
            raise InvalidArgument.field(f"quotas.{each.name}", "must be finite, and 0 or more")
        if isinstance(value, float) and value > _LARGEST:
            raise InvalidArgument.field(f"quotas.{each.name}", "must be at most 1e12")
    if 0 < quotas.burst < 1:
        raise InvalidArgument.field("quotas.burst", "must be 0, or at least 1")
    return quotas


class TenantQuotas:
    """Tells and sets the quotas of tenants."""

    def __init__(self, tenants: TenantDirectory, store: QuotaStore) -> None:
        self._tenants = tenants
        self._store = store

    async def get(self, tenant_id: str) -> tuple[Quotas, QuotaUsage]:
        """What a tenant may use, and what it uses; measured anew where that is a minute old.

        Raises:
            NotFound: there is no such tenant (TENANT_NOT_FOUND).
        """
        tenant = await self._tenants.reread(check_tenant_id(tenant_id))
        usage = await self._tenants.run(tenant, self._store.usage)
        if usage.measured_at is None or datetime.now(UTC) - usage.measured_at > _FRESH:
            await self._store.measure(tenant.tenant_id)
            usage = await self._tenants.run(tenant, self._store.usage)
        if not tenant.quotas.interactions_per_day:
            count = await self._store.interactions_today(tenant.tenant_id)
            usage = replace(usage, interactions=count)
        return tenant.quotas, usage

    async def set(self, tenant_id: str, quotas: Quotas) -> Quotas:
        """Limits a tenant from now on.

        Raises:
            InvalidArgument: see `check_quotas`.
            NotFound: there is no such tenant (TENANT_NOT_FOUND).
        """
        await self._store.set(check_tenant_id(tenant_id), check_quotas(quotas))
        return (await self._tenants.reread(tenant_id)).quotas
