"""Predictions that are kept for a time under a caller's key, counted as they are read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from storage.database import MAINTENANCE_ROLE, Database
from storage.exceptions import InvalidArgument
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("predictions")

DEFAULT_TTL_SECS = 3600.0
MAX_TTL_SECS = 365 * 86400.0
MAX_KEY_LENGTH = 512
MAX_PREDICTIONS_BYTES = 16 * 1024 * 1024
_PURGED_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class CachedPredictions:
    """What a key holds.

    Attributes:
        predictions: the bytes given, or JSON of the value given.
        access_count: how often it was read since it was cached, this time included.
    """

    cache_key: str
    predictions: bytes
    metadata: dict[str, Any]
    cached_at: datetime
    expires_at: datetime
    access_count: int
    last_accessed: datetime

    def value(self) -> Any:
        """The predictions as the JSON value that was given."""
        return orjson.loads(self.predictions)


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """A tenant's cache at one moment.

    Attributes:
        entries: all, those that have expired and wait for the purge included.
        accesses: reads that found one of these entries.
        entries_used: how many of them were ever read.
        last_accessed: when one was last read; None when none was.
    """

    entries: int
    expired_entries: int
    size_bytes: int
    accesses: int
    entries_used: int
    oldest: datetime | None
    newest: datetime | None
    last_accessed: datetime | None


class PredictionCache:
    """The prediction_cache table.

    Every method but `purge_expired` is for one tenant, and raises StaleTenant when its row has
    changed.

    Args:
        database: connections that see one tenant at a time.
        maintenance: connections that see all tenants; only `purge_expired` needs them.
    """

    def __init__(self, database: Database, maintenance: Database | None = None) -> None:
        self._database = database
        self._maintenance = maintenance

    async def cache_predictions(
        self,
        tenant: Tenant,
        cache_key: str,
        predictions: Any,
        ttl_seconds: float = DEFAULT_TTL_SECS,
        metadata: Mapping[str, Any] | None = None,
    ) -> datetime:
        """Keeps predictions for a time; what the key held before is gone.

        Args:
            cache_key: 1 to 512 characters.
            predictions: bytes, or a value that JSON can hold (NumPy arrays too); at most 16 MiB.
            ttl_seconds: more than 0, at most a year.

        Returns:
            When they expire.

        Raises:
            InvalidArgument: names what is outside these limits.
        """
        if not 1 <= len(cache_key) <= MAX_KEY_LENGTH:
            raise InvalidArgument.field("cache_key", f"must have 1 to {MAX_KEY_LENGTH} characters")
        if not (math.isfinite(ttl_seconds) and 1e-6 <= ttl_seconds <= MAX_TTL_SECS):
            raise InvalidArgument.field(
                "ttl_seconds", f"must be more than 0 and at most {MAX_TTL_SECS:.0f}"
            )
        stored = predictions if isinstance(predictions, bytes) else _json(predictions)
        if len(stored) > MAX_PREDICTIONS_BYTES:
            raise InvalidArgument.field(
                "predictions", f"take {len(stored)} bytes, more than {MAX_PREDICTIONS_BYTES}"
            )
        async with self._database.connection(tenant.tenant_id) as connection:
            expires_at: datetime = await connection.fetchval(
                _SQL["cache_predictions"],
                *_guard(tenant),
                cache_key,
                stored,
                orjson.dumps(metadata or {}).decode(),
                ttl_seconds,
            )
        return expires_at

    async def get_cached_predictions(
        self, tenant: Tenant, cache_key: str
    ) -> CachedPredictions | None:
        """What a key holds, counted as read; None when it holds nothing or that has expired."""
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["get_cached_predictions"], *_guard(tenant), cache_key
            )
        if row is None:
            return None
        return CachedPredictions(**{**row, "metadata": orjson.loads(row["metadata"])})

    async def clear_cache(self, tenant: Tenant, pattern: str = "*") -> int:
        """Removes the keys that match; returns how many.

        Args:
            pattern: `*` stands for any characters, also none; everything else for itself.
        """
        async with self._database.connection(tenant.tenant_id) as connection:
            return int(
                await connection.fetchval(
                    _SQL["clear_cache"], *_guard(tenant), like_pattern(pattern)
                )
            )

    async def get_cache_statistics(self, tenant: Tenant) -> CacheStatistics:
        """Entries, bytes and accesses of the tenant's cache."""
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["cache_statistics"], tenant.tenant_id, tenant.version
            )
        assert row is not None
        return CacheStatistics(**row)

    async def purge_expired(self) -> int:
        """Removes what has expired, of all tenants; returns how many entries."""
        if self._maintenance is None or self._maintenance.role != MAINTENANCE_ROLE:
            raise ValueError("needs connections that see all tenants")
        purged = 0
        while True:
            async with self._maintenance.connection(None) as connection:
                count = int(await connection.fetchval(_SQL["purge_expired"], _PURGED_AT_ONCE))
            purged += count
            if count < _PURGED_AT_ONCE:
                return purged


def like_pattern(pattern: str) -> str:
    """The LIKE pattern of one in which only `*` is special."""
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%")


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:  # orjson's encoding errors are of this class
        raise InvalidArgument.field("predictions", f"cannot be kept as JSON: {error}") from error


def _guard(tenant: Tenant) -> tuple[str, int, int]:
    return (tenant.tenant_id, tenant.tenant_no, tenant.version)
