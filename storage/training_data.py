"""What a training learns from, out of PostgreSQL as arrays: no row ever becomes an object.

COPY sends rows whose fields have fixed widths, so that a block of them is an array already. Format:
https://www.postgresql.org/docs/current/sql-copy.html (binary: 19 bytes, rows, -1; big-endian).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.database import Connection, Database
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("training_data")
_TRENDS = load("trends")

MAX_INTERACTIONS = 20_000_000
"""Of a tenant with more, the latest are read."""

_HEADER_BYTES = 19
_BLOCK_BYTES = 4 << 20
_COPY_TIMEOUT_SECS = 3600.0
_INT64: np.dtype[Any] = np.dtype(np.int64)
_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_FLOAT16: np.dtype[Any] = np.dtype(np.float16)
_MICROSECONDS = 1_000_000
_EPOCH_2000 = 946_684_800
"""PostgreSQL counts time from 2000, in microseconds; here seconds since 1970."""


def _row(*fields: tuple[str, Any]) -> np.dtype[np.void]:
    """One row of COPY: the number of fields, and before each field its length."""
    parts: list[tuple[str, Any]] = [("count", ">i2")]
    for name, form in fields:
        parts += [(f"{name}_bytes", ">i4"), (name, form)]
    return np.dtype(parts)


_ENTITY = _row(("key", ">i8"), ("entity", ">i8"))
_INTERACTION = _row(("user", ">i8"), ("entity", ">i8"), ("weight", ">f8"), ("time", ">i8"))


def _vector_row(dimension: int) -> np.dtype[np.void]:
    halfvec = np.dtype([("dimension", ">i2"), ("unused", ">i2"), ("values", ">f2", (dimension,))])
    return _row(("entity", ">i8"), ("vector", halfvec))


@dataclass(frozen=True, slots=True)
class TrainingArrays:
    """Interactions as they lie in storage, a place each, in no particular order.

    Attributes:
        user_keys_of_rows: int64 (n,), a number for the user's id (64 bits of a hash).
        entity_nos: int64 (n,).
        weights: float32 (n,), finite, not zero.
        times: int64 (n,), seconds since 1970.
        vectors: entity numbers int64 (m,) and their feature vectors float16 (m, dimension); None
            where they were not asked for.
    """

    user_keys_of_rows: NDArray[np.int64]
    entity_nos: NDArray[np.int64]
    weights: NDArray[np.float32]
    times: NDArray[np.int64]
    vectors: tuple[NDArray[np.int64], NDArray[np.float16]] | None = None

    def __len__(self) -> int:
        """How many interactions there are."""
        return len(self.weights)


class _Columns:
    """Takes COPY's bytes as they come and keeps some fields of the rows as native arrays."""

    def __init__(self, row: np.dtype[np.void], kept: dict[str, np.dtype[Any]]) -> None:
        self._row = row
        self._kept = kept
        self._pending = bytearray()
        self._header = True
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in kept}

    async def take(self, data: bytes) -> None:
        """More of the stream, cut anywhere."""
        self._pending += data
        if len(self._pending) >= _BLOCK_BYTES:
            self._parse()

    def _parse(self) -> None:
        start = _HEADER_BYTES if self._header else 0
        count = max(len(self._pending) - start, 0) // self._row.itemsize
        if not count:
            return
        rows = np.frombuffer(self._pending, self._row, count, start)
        if np.any(rows["count"] != len(self._row.names or ()) // 2):
            raise ValueError("COPY sent a row of another width")
        for name, dtype in self._kept.items():
            field: NDArray[Any] = rows[name]
            if field.dtype.names is not None:
                field = field["values"]
            with np.errstate(over="ignore"):
                self._parts[name].append(field.astype(dtype))
        self._pending = self._pending[start + count * self._row.itemsize :]
        self._header = False

    def column(self, name: str, shape: tuple[int, ...] = ()) -> NDArray[Any]:
        """A whole column, given away: the blocks it came in are forgotten."""
        self._parse()
        empty = np.empty((0, *shape), self._kept[name])
        return np.concatenate([empty, *self._parts.pop(name)])


class TrainingDataStore:
    """Reads interactions and feature vectors of one tenant at a time.

    Args:
        service: connections that see one tenant at a time.
    """

    def __init__(self, service: Database) -> None:
        self._service = service

    async def read(
        self, tenant: Tenant, *, limit: int = MAX_INTERACTIONS, vectors: bool = False
    ) -> TrainingArrays:
        """The interactions whose weight is not 0 with entities that are stored, users apart.

        Args:
            limit: of more interactions than that, the latest so many are read.
            vectors: also reads the feature vectors of all entities.

        Raises:
            StaleTenant: read the tenant again and repeat.
            DeadlineExceeded: the reading took longer than an hour.
        """
        async with self._service.transaction(tenant.tenant_id) as connection:
            await connection.execute(_TRENDS["plan_for_whole_tenants"])
            rows = await self._interactions(connection, tenant, limit)
            entities = await self._entities(connection, tenant)
            found = await self._vectors(connection, tenant) if vectors else None
        return _arrays(rows, *entities, found)

    async def touched(self, tenant: Tenant, since: datetime) -> NDArray[np.int64]:
        """Entities in the histories of who did anything since an instant; int64, ascending."""
        async with self._service.transaction(tenant.tenant_id) as connection:
            await connection.execute(_TRENDS["plan_for_whole_tenants"])
            rows = await connection.fetch(
                _SQL["read_touched"], tenant.tenant_id, tenant.version, tenant.placement, since
            )
        return np.sort(np.fromiter((row[0] for row in rows), np.int64, len(rows)))

    async def user_ids(self, tenant: Tenant, keys: Sequence[int]) -> dict[int, str]:
        """The users' ids by their numbers; those that are gone are left out."""
        async with self._service.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(_SQL["user_ids_of_keys"], tenant.tenant_id, list(keys))
        return {row["user_key"]: row["user_id"] for row in rows}

    async def _interactions(self, connection: Connection, tenant: Tenant, limit: int) -> _Columns:
        kept = {"user": _INT64, "entity": _INT64, "weight": _FLOAT32, "time": _INT64}
        guard = (tenant.tenant_id, tenant.version)
        # Sorting by time is only worth its price where something has to be left out.
        columns = _Columns(_INTERACTION, kept)
        if await _copy(connection, "read_interactions", columns, *guard, limit + 1) > limit:
            columns = _Columns(_INTERACTION, kept)
            await _copy(connection, "read_latest_interactions", columns, *guard, limit)
        return columns

    async def _entities(
        self, connection: Connection, tenant: Tenant
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        columns = _Columns(_ENTITY, {"key": _INT64, "entity": _INT64})
        place = (tenant.tenant_id, tenant.version, tenant.placement)
        await _copy(connection, "read_entity_keys", columns, *place)
        return columns.column("key"), columns.column("entity")

    async def _vectors(
        self, connection: Connection, tenant: Tenant
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        kept = {"entity": _INT64, "vector": _FLOAT16}
        columns = _Columns(_vector_row(tenant.dimension), kept)
        place = (tenant.tenant_id, tenant.version, tenant.placement)
        await _copy(connection, "read_vectors", columns, *place, tenant.dimension)
        return columns.column("entity"), columns.column("vector", (tenant.dimension,))


async def _copy(
    connection: Connection, statement: str, columns: _Columns, *arguments: object
) -> int:
    """Runs a statement as COPY into columns; returns the number of rows."""
    status = await connection.copy_from_query(
        _SQL[statement],
        *arguments,
        output=columns.take,
        format="binary",
        timeout=_COPY_TIMEOUT_SECS,
    )
    return int(status.rpartition(" ")[2])


def _arrays(
    rows: _Columns,
    keys: NDArray[np.int64],
    entity_nos: NDArray[np.int64],
    vectors: tuple[NDArray[np.int64], NDArray[np.float16]] | None,
) -> TrainingArrays:
    """The rows whose entities are stored, with their numbers."""
    order = np.argsort(keys)
    keys, entity_nos = keys[order], entity_nos[order]
    wanted = rows.column("entity")
    users, weights, times = rows.column("user"), rows.column("weight"), rows.column("time")
    if not len(keys):
        wanted, users, weights, times = wanted[:0], users[:0], weights[:0], times[:0]
    places = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    known = keys[places] == wanted
    if not known.all():
        users, places, weights, times = users[known], places[known], weights[known], times[known]
    largest = np.finfo(np.float32).max
    np.clip(weights, -largest, largest, out=weights)
    times //= _MICROSECONDS
    times += _EPOCH_2000
    return TrainingArrays(users, entity_nos[places], weights, times, vectors)
