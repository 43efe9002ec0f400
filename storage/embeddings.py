"""Embeddings that other programs computed: exact float32 vectors in named sets.

A set is the embeddings of one entity type and version; all of a set have one dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.database import Database
from storage.exceptions import InvalidArgument
from storage.queries import load
from storage.quotas import check_bytes
from storage.tenants import Tenant
from storage.tombstones import erased_among

_SQL = load("embeddings")

LATEST = "latest"
FIRST_VERSION = "1"
MAX_DIMENSION = 16_000
_MAX_NAME = 255
_MAX_VERSION = 50
_STORED = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class EmbeddingRow:
    """A stored embedding.

    Attributes:
        values: float32, shape (dimension,).
        updated_at: when it was last written.
    """

    entity_type: str
    entity_id: str
    version: str
    values: NDArray[np.float32]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewEmbedding:
    """An embedding to store; it replaces the one of the same entity and version.

    Attributes:
        values: 1 to 16,000 finite numbers, stored as float32.
    """

    entity_type: str
    entity_id: str
    values: ArrayLike
    version: str = FIRST_VERSION


@dataclass(frozen=True, slots=True)
class EmbeddingSetStats:
    """What one set holds; size_bytes are those of the vectors."""

    entity_type: str
    version: str
    dimension: int
    embedding_count: int
    size_bytes: int
    updated_at: datetime


class EmbeddingStore:
    """The embeddings table, for one tenant a call.

    Every method raises StaleTenant when the tenant's row has changed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save_embeddings(
        self,
        tenant: Tenant,
        entity_type: str,
        entity_id: str,
        values: ArrayLike,
        version: str = FIRST_VERSION,
    ) -> None:
        """Stores one embedding; errors as of `batch_save_embeddings`."""
        await self.batch_save_embeddings(
            tenant, [NewEmbedding(entity_type, entity_id, values, version)]
        )

    async def batch_save_embeddings(
        self,
        tenant: Tenant,
        embeddings: Sequence[NewEmbedding],
        user_hashes: Sequence[bytes] = (),
    ) -> int:
        """Stores embeddings, all or none; returns how many: none where one is of an erased user.

        Args:
            user_hashes: of those entities that are users, where the tenant has erased users.

        Raises:
            InvalidArgument: names the first at fault, as `embeddings[i]...`: a name or version
                that is empty or too long, values that are no finite vector, an entity that occurs
                twice, or another dimension than the set has (DIMENSION_MISMATCH).
        """
        if not embeddings:
            return 0
        vectors = _checked(embeddings)
        types = [e.entity_type for e in embeddings]
        versions = [e.version for e in embeddings]
        guard = (tenant.tenant_id, tenant.tenant_no, tenant.version)
        async with self._database.transaction(tenant.tenant_id) as connection:
            # In a statement of its own: the next one's snapshot shows what the lock waited for.
            await connection.execute(_SQL["lock_sets"], *guard, types, versions)
            if await erased_among(connection, tenant.tenant_id, user_hashes):
                return 0
            await check_bytes(connection, tenant)
            mismatched = await connection.fetchrow(
                _SQL["save_embeddings"],
                tenant.tenant_id,
                types,
                [e.entity_id for e in embeddings],
                versions,
                [vector.tobytes() for vector in vectors],
                [len(vector) for vector in vectors],
            )
        if mismatched is not None:
            place = mismatched["place"]
            raise _mismatch(place, len(vectors[place]), embeddings[place], mismatched["dimension"])
        return len(embeddings)

    async def get_embeddings(
        self, tenant: Tenant, entity_type: str, entity_id: str, version: str = LATEST
    ) -> EmbeddingRow | None:
        """An entity's embedding of a version, or the one of the entity that was written last."""
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["get_embedding"],
                tenant.tenant_id,
                tenant.version,
                entity_type,
                entity_id,
                version,
            )
        return None if row is None else _embedding(row)

    async def get_all_embeddings(
        self,
        tenant: Tenant,
        entity_type: str,
        version: str = LATEST,
        *,
        after: str = "",
        limit: int = 1_000,
    ) -> list[EmbeddingRow]:
        """A page of a set, in byte order of the entity ids.

        Args:
            version: of the set, or "latest": the type's set that was written to last. Later pages
                should name the version that the first one showed.
            after: the last id of the page before.
        """
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_embeddings"],
                tenant.tenant_id,
                tenant.version,
                entity_type,
                version,
                after,
                limit,
            )
        return [_embedding(row) for row in rows]

    async def get_embeddings_stats(self, tenant: Tenant) -> list[EmbeddingSetStats]:
        """What each set holds, sorted by type and version."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["embeddings_stats"], tenant.tenant_id, tenant.version
            )
        return [EmbeddingSetStats(**row) for row in rows]

    async def remove_version(self, tenant: Tenant, entity_type: str, version: str) -> int:
        """Removes a set; returns how many embeddings it had."""
        guard = (tenant.tenant_id, tenant.tenant_no, tenant.version)
        async with self._database.connection(tenant.tenant_id) as connection:
            return int(await connection.fetchval(_SQL["remove_set"], *guard, entity_type, version))

    async def remove_older(
        self, tenant: Tenant, before: datetime, entity_type: str | None = None
    ) -> int:
        """Removes embeddings not written since an instant, of one type or all; returns how many."""
        guard = (tenant.tenant_id, tenant.tenant_no, tenant.version)
        async with self._database.connection(tenant.tenant_id) as connection:
            return int(await connection.fetchval(_SQL["remove_older"], *guard, before, entity_type))


def _embedding(row: Any) -> EmbeddingRow:
    return EmbeddingRow(
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        version=row["version"],
        values=np.frombuffer(row["embeddings"], _STORED).astype(np.float32, copy=False),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _checked(embeddings: Sequence[NewEmbedding]) -> list[NDArray[np.float32]]:
    vectors = []
    places: dict[tuple[str, str, str], int] = {}
    dimensions: dict[tuple[str, str], int] = {}
    for place, embedding in enumerate(embeddings):
        path = f"embeddings[{place}]"
        for field, text, longest in (
            ("entity.type", embedding.entity_type, _MAX_NAME),
            ("entity.id", embedding.entity_id, _MAX_NAME),
            ("version", embedding.version, _MAX_VERSION),
        ):
            if not 1 <= len(text) <= longest:
                raise InvalidArgument.field(
                    f"{path}.{field}", f"must have 1 to {longest} characters"
                )
        if embedding.version == LATEST:
            raise InvalidArgument.field(
                f"{path}.version", "must be a name; latest stands for the one written last"
            )
        key = (embedding.entity_type, embedding.entity_id, embedding.version)
        if places.setdefault(key, place) != place:
            raise InvalidArgument.field(
                f"{path}.entity", f"is that of embeddings[{places[key]}] too"
            )
        vector = _vector(embedding.values, path)
        known = dimensions.setdefault((embedding.entity_type, embedding.version), len(vector))
        if known != len(vector):
            raise _mismatch(place, len(vector), embedding, known)
        vectors.append(vector)
    return vectors


def _vector(values: ArrayLike, path: str) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite below
            vector = np.asarray(values).astype(_STORED)
    except (TypeError, ValueError) as error:
        raise InvalidArgument.field(f"{path}.values", "must be numbers") from error
    if vector.ndim != 1 or not 1 <= len(vector) <= MAX_DIMENSION:
        raise InvalidArgument.field(
            f"{path}.values", f"must be one vector of 1 to {MAX_DIMENSION} numbers"
        )
    if not np.isfinite(vector).all():
        raise InvalidArgument.field(f"{path}.values", "must be finite in single precision")
    return vector


def _mismatch(
    place: int, dimension: int, embedding: NewEmbedding, expected: int
) -> InvalidArgument:
    return InvalidArgument.field(
        f"embeddings[{place}].values",
        f"has {dimension} numbers; the set {embedding.entity_type!r}, version"
        f" {embedding.version!r}, has {expected}",
        reason="DIMENSION_MISMATCH",
    )
