"""Embeddings in and out: names are checked, vectors stored as they are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from engine.catalogue import check_key
from engine.identifiers import check_id
from engine.tenants import TenantDirectory
from engine.tombstones import Tombstones, user_erased
from storage.embeddings import (
    LATEST,
    EmbeddingRow,
    EmbeddingSetStats,
    EmbeddingStore,
    NewEmbedding,
)
from storage.exceptions import InvalidArgument, NotFound
from storage.tenants import Tenant

MAX_BATCH = 1000
MAX_VERSION_BYTES = 50
LEAST_AGE_SECS = 1.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_version(value: str, field: str = "version", *, latest: bool = False) -> str:
    """A version: 1 to 50 bytes without control characters, and "latest" only where it may be.

    Raises:
        InvalidArgument: it is not.
    """
    check_id(value, field)
    if len(value.encode()) > MAX_VERSION_BYTES:
        raise InvalidArgument.field(
            field, f"is {len(value.encode())} bytes long; at most {MAX_VERSION_BYTES}"
        )
    if value == LATEST and not latest:
        raise InvalidArgument.field(field, "must name a version; latest stands for any")
    return value


class Embeddings:
    """A tenant's embeddings."""

    def __init__(
        self, tenants: TenantDirectory, store: EmbeddingStore, tombstones: Tombstones
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._tombstones = tombstones

    async def save(self, tenant: Tenant, embeddings: Sequence[NewEmbedding]) -> int:
        """Stores embeddings, all or none; returns how many.

        Raises:
            InvalidArgument: not 1 to 1,000; or the first at fault: its names, its values, an entity
                that occurs twice, another dimension than the set has (DIMENSION_MISMATCH).
            FailedPrecondition: one is of a user who was erased (USER_ERASED).
        """
        if not 1 <= len(embeddings) <= MAX_BATCH:
            raise InvalidArgument.field("embeddings", f"must have 1 to {MAX_BATCH} entries")
        for index, embedding in enumerate(embeddings):
            path = f"embeddings[{index}]"
            check_key(embedding.entity_type, embedding.entity_id, f"{path}.entity")
            check_version(embedding.version, f"{path}.version")

        async def save(now: Tenant) -> int:
            found = (
                self._tombstones.hash_entity(now.tenant_id, e.entity_type, e.entity_id)
                for e in (embeddings if now.has_erased_users else ())
            )
            hashes = [h for h in found if h is not None]
            return await self._store.batch_save_embeddings(now, embeddings, hashes)

        saved = await self._tenants.run(tenant, save)
        if not saved:
            raise user_erased()
        return saved

    async def get(
        self, tenant: Tenant, entity_type: str, entity_id: str, version: str
    ) -> EmbeddingRow:
        """An entity's embedding of a version, or the one written last.

        Raises:
            NotFound: EMBEDDING_NOT_FOUND.
        """
        check_key(entity_type, entity_id)
        check_version(version, latest=True)
        found = await self._tenants.run(
            tenant, lambda t: self._store.get_embeddings(t, entity_type, entity_id, version)
        )
        if found is None:
            raise NotFound(
                f"There is no embedding of {entity_id!r} of type {entity_type!r},"
                f" version {version!r}.",
                reason="EMBEDDING_NOT_FOUND",
                metadata={
                    "entity_type": entity_type,
                    "entity_id": entity_id,
                    "version": version,
                },
            )
        return found

    async def page(
        self, tenant: Tenant, entity_type: str, version: str, *, after: str, limit: int
    ) -> list[EmbeddingRow]:
        """Embeddings of a set after an id, in byte order; of "latest" the set written to last."""
        check_id(entity_type, "entity_type")
        check_version(version, latest=True)
        return await self._tenants.run(
            tenant,
            lambda t: self._store.get_all_embeddings(
                t, entity_type, version, after=after, limit=limit
            ),
        )

    async def stats(self, tenant: Tenant) -> list[EmbeddingSetStats]:
        """What each set holds, sorted by type and version."""
        return await self._tenants.run(tenant, self._store.get_embeddings_stats)

    async def remove_version(self, tenant: Tenant, entity_type: str, version: str) -> int:
        """Removes a set; returns how many embeddings it had."""
        check_id(entity_type, "entity_type")
        check_version(version)
        return await self._tenants.run(
            tenant, lambda t: self._store.remove_version(t, entity_type, version)
        )

    async def remove_older(self, tenant: Tenant, age_secs: float, entity_type: str) -> int:
        """Removes what was not written for a time, of one type or ("") all; returns how many."""
        if age_secs < LEAST_AGE_SECS:
            raise InvalidArgument.field("older_than", "must be at least 1 second")
        if entity_type:
            check_id(entity_type, "entity_type")
        now = datetime.now(UTC)
        before = now - min(timedelta(seconds=min(age_secs, 1e11)), now - _EPOCH)
        return await self._tenants.run(
            tenant, lambda t: self._store.remove_older(t, before, entity_type or None)
        )
