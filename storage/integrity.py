"""Reading a tenant's data against each other: nothing is locked, and writers are not held up.

What is compared is read by one statement, which sees one snapshot: an ingest is in both sides of a
comparison or in neither.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.interactions import decay_rate
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("integrity")
_TRENDS = load("trends")

_TIMEOUT_SECS = 1800.0
_PROFILES = 200
_USERS = 5_000
_UNDER_WAY_SECS = 600.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found: how many were examined, how many are wrong, and some of these."""

    examined: int
    problems: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArtefactRef:
    """What an active version says of its artefact; size in bytes."""

    label: str
    content_hash: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ProfileCheck:
    """A profile's accumulator, and what the log makes of it.

    Attributes:
        kept, expected: float32, shape (dimension,), or None for no vector at all.
        kept_landmark, expected_landmark: what they are relative to, in seconds since the epoch.
        mass: the sum of the events' decayed weights without their signs, relative to
            expected_landmark: what rounding errors are a share of.
        settled: whether the entities that the user met have the vectors they had then.
        sure: whether these are also older than any transaction that was under way then.
    """

    user_id: str
    kept: NDArray[np.float32] | None
    kept_landmark: float
    expected: NDArray[np.float32] | None
    expected_landmark: float
    mass: float
    settled: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erased user, of whom only a hash is known."""

    user_hash: bytes
    readmitted: bool
    erased_at: datetime


class IntegrityStore:
    """Comparisons over one tenant's rows; each raises StaleTenant when the tenant has changed.

    Args:
        maintenance: connections that see all tenants; every statement names the tenant.
    """

    def __init__(self, maintenance: Database) -> None:
        self._maintenance = maintenance

    async def active_versions(self, tenant: Tenant) -> list[ArtefactRef]:
        """The artefacts of all active versions."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["active_versions"], tenant.tenant_id, tenant.version)
        return [
            ArtefactRef(f"{r['model_name']}@{r['version']}", r["content_hash"], r["size_bytes"])
            for r in rows
        ]

    async def serving_version(self, tenant: Tenant) -> Found:
        """The version that serves, unless it is active and has no problem."""
        return await self._find("serving_version", tenant.tenant_id, tenant.version)

    async def profile_counts(self, tenant: Tenant) -> Found:
        """Users whose profile counts other interactions than the log has."""
        return await self._find("profile_counts", tenant.tenant_id, tenant.version)

    async def missing_keys(self, tenant: Tenant, window_days: int) -> Found:
        """Interactions of the idempotency window whose ids are not remembered."""
        return await self._find("missing_keys", tenant.tenant_id, tenant.version, window_days)

    async def orphans_of(self, tenant: Tenant) -> Found:
        """Rows of the tenant that belong to nothing."""
        return await self._find(
            "orphans_of_tenant", tenant.tenant_id, tenant.version, tenant.placement
        )

    async def indexes(self, tenant: Tenant) -> Found:
        """Indexes that are invalid or missing."""
        examined, wrong = await self._indexes(tenant)
        if wrong:
            _, again = await self._indexes(tenant)
            wrong = {number: name for number, name in wrong.items() if number in again}
        return Found(examined, len(wrong), tuple(wrong.values()))

    async def orphans(self) -> Found:
        """Rows of no tenant, in all tables."""
        return await self._find("orphans")

    async def count_profiles(self, tenant: Tenant) -> int:
        """How many profiles the tenant has."""
        async with self._maintenance.connection(None) as connection:
            return int(
                await connection.fetchval(
                    _SQL["count_profiles"],
                    tenant.tenant_id,
                    tenant.version,
                    timeout=_TIMEOUT_SECS,
                )
            )

    async def profiles(
        self, tenant: Tenant, after: str, share: float, seed: int, doubt_secs: float
    ) -> list[ProfileCheck]:
        """Up to 200 profiles after a user, with what the log makes of them; empty at the end.

        Args:
            share: of all users, 0 to 1, that are looked at; the seed says which.
            doubt_secs: how long a transaction may have been under way.
        """
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(
                _SQL["accumulators"],
                tenant.tenant_id,
                tenant.version,
                tenant.placement,
                decay_rate(tenant),
                after,
                seed,
                share,
                _PROFILES,
                doubt_secs,
                timeout=_TIMEOUT_SECS,
            )
        return [ProfileCheck(**row) for row in rows]

    async def erasures(self, tenant: Tenant) -> list[Erasure]:
        """Whom the tenant has erased, ten minutes ago or earlier."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(
                _SQL["tombstones"], tenant.tenant_id, tenant.version, _UNDER_WAY_SECS
            )
        return [Erasure(**row) for row in rows]

    async def users_in_log(self, tenant: Tenant, after: str) -> list[tuple[str, datetime]]:
        """Up to 5,000 users after one, and when the first interaction of each happened."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(
                _SQL["users_in_log"],
                tenant.tenant_id,
                tenant.version,
                after,
                _USERS,
                timeout=_TIMEOUT_SECS,
            )
        return [(row["user_id"], row["first_at"]) for row in rows]

    async def _indexes(self, tenant: Tenant) -> tuple[int, dict[int, str]]:
        """How many indexes there are, and the names of those that are wrong."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(
                _SQL["indexes"], tenant.tenant_id, tenant.version, tenant.placement
            )
        return len(rows), {row["number"]: row["name"] for row in rows if not row["well"]}

    async def _find(self, statement: str, *arguments: object) -> Found:
        async with self._maintenance.transaction(None) as connection:
            await connection.execute(_TRENDS["plan_for_whole_tenants"])
            row = await connection.fetchrow(_SQL[statement], *arguments, timeout=_TIMEOUT_SECS)
        assert row is not None
        return Found(row["examined"], row["problems"], tuple(row["examples"] or ()))
