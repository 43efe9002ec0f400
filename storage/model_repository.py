"""Models, embeddings, metrics and cached predictions of one tenant behind one object."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.artefacts import ArtefactStore, check_hash, sweep, unreadable
from storage.database import Database
from storage.embeddings import FIRST_VERSION, EmbeddingSetStats, EmbeddingStore, NewEmbedding
from storage.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PenchantError,
    StaleTenant,
)
from storage.model_health import Health, check_health
from storage.models import LATEST, ModelStore, StorageStats, VersionRow
from storage.predictions import DEFAULT_TTL_SECS, CacheStatistics, PredictionCache
from storage.retention import RetentionStore
from storage.retry import retry_transient
from storage.tenants import Tenant, TenantStore
from storage.timings import Timing, Timings
from storage.training_metrics import TrainingMetrics, TrainingMetricsStore

T = TypeVar("T")

_PAGE = 1_000
_MAX_RETENTION_DAYS = 36_500
_REREADS = 5


class PostgresModelRepository:
    """Everything about models that one tenant stores.

    Model bytes go into the artefact store, their rows into PostgreSQL. Calls that may be repeated
    are, when PostgreSQL was away for a moment; a tenant whose row has changed is read again.

    Args:
        tenant: whose rows these are.
        database: connections that see one tenant at a time.
        maintenance: connections that see all tenants.
        artefacts: where model bytes lie.
        owner: connections of the schema's owner; only `optimize_database` needs them.
    """

    def __init__(
        self,
        tenant: Tenant,
        database: Database,
        maintenance: Database,
        artefacts: ArtefactStore,
        *,
        owner: Database | None = None,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._artefacts = artefacts
        self._tenants = TenantStore(database, maintenance)
        self._retention = None if owner is None else RetentionStore(owner, maintenance)
        self._models = ModelStore(database, maintenance)
        self._embeddings = EmbeddingStore(database)
        self._predictions = PredictionCache(database, maintenance)
        self._metrics = TrainingMetricsStore(database)
        self._timings = Timings()

    async def save_model(
        self,
        model_name: str,
        model_data: bytes,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        manifest: Mapping[str, Any] | None = None,
    ) -> VersionRow:
        """Stores a model's bytes as a version; makes the model when there is none of that name.

        Args:
            version: its name; None: the next number.
            metadata: what is known of the training; "algorithm" names that of a new model.
            manifest: what the row says of the artefact besides its size and SHA-256.

        Raises:
            AlreadyExists: the version was given before.
        """
        content_hash = hashlib.sha256(model_data).hexdigest()
        facts = dict(metadata or {})
        described = {
            **(manifest or {}),
            "content_hash": content_hash,
            "size_bytes": len(model_data),
        }

        async def save(tenant: Tenant) -> VersionRow:
            try:
                await self._models.get(tenant, model_name)
            except NotFound:
                await self._make_model(tenant, model_name, str(facts.get("algorithm", "imported")))
            # Kept anew for every attempt: only a young artefact may wait for its row.
            await asyncio.to_thread(self._keep, model_data, content_hash)
            return await self._models.add_version(
                tenant,
                model_name,
                manifest=described,
                metadata=facts,
                content_hash=content_hash,
                size_bytes=len(model_data),
                version=version,
            )

        return await self._call("save_model", save, repeatable=False)

    async def load_model(self, model_name: str, version: str = LATEST) -> bytes:
        """A version's bytes, checked against their SHA-256.

        Raises:
            NotFound: there is no such version (VERSION_NOT_FOUND).
            FailedPrecondition: the artefact is missing or altered (ARTEFACT_CORRUPT).
        """

        async def load_checked(tenant: Tenant) -> bytes:
            row = await self._models.version(tenant, model_name, version)
            return await asyncio.to_thread(
                _read, self._artefacts.path(row.content_hash), row.content_hash
            )

        return await self._call("load_model", load_checked)

    async def get_model_versions(self, model_name: str) -> list[VersionRow]:
        """The active versions of a model, newest first."""

        async def pages(tenant: Tenant) -> list[VersionRow]:
            found: list[VersionRow] = []
            before = None
            while page := await self._models.versions(tenant, model_name, before, _PAGE):
                found += page
                before = (page[-1].created_at, page[-1].version)
            return found

        return await self._call("get_model_versions", pages)

    async def delete_model(
        self, model_name: str, version: str | None = None, *, force: bool = False
    ) -> None:
        """Marks a version, or the model with all of them, inactive; nothing is removed yet.

        Args:
            force: also what serves (see `ModelStore.delete` and `ModelStore.delete_version`).

        Raises:
            NotFound: there is none (MODEL_NOT_FOUND, VERSION_NOT_FOUND).
            FailedPrecondition: it serves (MODEL_SERVING).
        """

        async def delete(tenant: Tenant) -> None:
            if version is None:
                await self._models.delete(tenant, model_name, force=force)
            else:
                await self._models.delete_version(tenant, model_name, version, force=force)

        await self._call("delete_model", delete, repeatable=False)

    async def cleanup_old_models(self, model_name: str, keep_versions: int = 5) -> int:
        """Removes all but the newest versions of a model, and deleted ones; returns how many.

        The serving version stays. Artefacts that no version names go too, unless they are young.
        """

        async def clean(tenant: Tenant) -> int:
            removed = await self._models.clean_up(
                tenant, model_name, keep_versions, _MAX_RETENTION_DAYS
            )
            hashes = {row.content_hash for row in removed}
            await sweep(self._artefacts, self._models.hashes_in_use, among=hashes)
            return len(removed)

        return await self._call("cleanup_old_models", clean, repeatable=False)

    async def save_embeddings(
        self,
        entity_type: str,
        entity_id: str,
        embeddings: ArrayLike,
        version: str = FIRST_VERSION,
    ) -> int:
        """Stores one embedding; errors as of `EmbeddingStore.batch_save_embeddings`."""
        new = [NewEmbedding(entity_type, entity_id, embeddings, version)]
        return await self._call(
            "save_embeddings", lambda t: self._embeddings.batch_save_embeddings(t, new)
        )

    async def batch_save_embeddings(
        self,
        embeddings_data: Sequence[NewEmbedding | tuple[str, str, ArrayLike]],
        version: str = FIRST_VERSION,
    ) -> int:
        """Stores embeddings, all or none; returns how many.

        Args:
            embeddings_data: entity type, entity id and values of each.
            version: of those that do not bring one.
        """
        new = [
            e if isinstance(e, NewEmbedding) else NewEmbedding(*e, version) for e in embeddings_data
        ]
        return await self._call(
            "batch_save_embeddings", lambda t: self._embeddings.batch_save_embeddings(t, new)
        )

    async def get_embeddings(
        self, entity_type: str, entity_id: str, version: str = LATEST
    ) -> NDArray[np.float32] | None:
        """An entity's embedding, float32 of shape (dimension,); None when there is none."""
        row = await self._call(
            "get_embeddings",
            lambda t: self._embeddings.get_embeddings(t, entity_type, entity_id, version),
        )
        return None if row is None else row.values

    async def get_all_embeddings(
        self, entity_type: str, version: str = LATEST
    ) -> dict[str, NDArray[np.float32]]:
        """All embeddings of a set by entity id; of "latest" the set that was written to last."""

        async def pages(tenant: Tenant) -> dict[str, NDArray[np.float32]]:
            found: dict[str, NDArray[np.float32]] = {}
            after, named = "", version
            while page := await self._embeddings.get_all_embeddings(
                tenant, entity_type, named, after=after, limit=_PAGE
            ):
                found |= {row.entity_id: row.values for row in page}
                after, named = page[-1].entity_id, page[-1].version
            return found

        return await self._call("get_all_embeddings", pages)

    async def get_embeddings_stats(self) -> list[EmbeddingSetStats]:
        """What each set of embeddings holds."""
        return await self._call("get_embeddings_stats", self._embeddings.get_embeddings_stats)

    async def cache_predictions(
        self,
        cache_key: str,
        predictions: Any,
        ttl_seconds: float = DEFAULT_TTL_SECS,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Keeps a JSON value for a time; see `PredictionCache.cache_predictions`."""
        await self._call(
            "cache_predictions",
            lambda t: self._predictions.cache_predictions(
                t, cache_key, predictions, ttl_seconds, metadata
            ),
        )
        return True

    async def get_cached_predictions(self, cache_key: str) -> Any:
        """The value of a key; None when it holds nothing or that has expired."""
        cached = await self._call(
            "get_cached_predictions",
            lambda t: self._predictions.get_cached_predictions(t, cache_key),
            repeatable=False,
        )
        return None if cached is None else cached.value()

    async def clear_cache(self, pattern: str = "*") -> int:
        """Removes the keys that match, `*` standing for any characters; returns how many."""
        return await self._call(
            "clear_cache", lambda t: self._predictions.clear_cache(t, pattern), repeatable=False
        )

    async def get_cache_statistics(self) -> CacheStatistics:
        """Entries, bytes and accesses of the cached predictions."""
        return await self._call("get_cache_statistics", self._predictions.get_cache_statistics)

    async def save_training_metrics(
        self, model_name: str, version: str, metrics: Mapping[str, float]
    ) -> TrainingMetrics:
        """Keeps metrics of a version; see `TrainingMetricsStore.save_training_metrics`."""
        return await self._call(
            "save_training_metrics",
            lambda t: self._metrics.save_training_metrics(t, model_name, version, metrics),
            repeatable=False,
        )

    async def get_training_metrics(
        self, model_name: str, version: str = LATEST
    ) -> dict[str, float] | None:
        """The newest metrics of a version, or of the model; None when there are none."""
        found = await self._call(
            "get_training_metrics",
            lambda t: self._metrics.get_training_metrics(t, model_name, version),
        )
        return None if found is None else found.metrics

    async def get_model_storage_stats(self) -> list[StorageStats]:
        """What the versions of each model take up."""
        return await self._call("get_model_storage_stats", self._models.storage_stats)

    async def get_performance_metrics(self) -> list[Timing]:
        """How often each verb was called on this object, and how long it took."""
        return self._timings.all()

    async def optimize_database(self) -> float:
        """Refreshes the planner's statistics of the models' tables; returns the seconds it took.

        Raises:
            FailedPrecondition: the repository was made without the owner's connections.
        """
        retention = self._retention
        if retention is None:
            raise FailedPrecondition("Only the schema's owner can analyse its tables.")
        began = time.perf_counter()
        await self._call("optimize_database", lambda _: retention.analyze_models())
        return time.perf_counter() - began

    async def health_check(self) -> Health:
        """Whether PostgreSQL answers, every table can be read, in what time, and files written."""
        with self._timings.measured("health_check"):
            try:
                return await self._with_tenant(
                    lambda tenant: check_health(tenant, self._database, self._artefacts)
                )
            except PenchantError as error:  # the tenant itself cannot be read
                return Health("unhealthy", {"connectivity": error.message})

    def _keep(self, model_data: bytes, content_hash: str) -> None:
        temporary = self._artefacts.temporary()
        temporary.write_bytes(model_data)
        self._artefacts.keep(temporary, content_hash)

    async def _make_model(self, tenant: Tenant, model_name: str, algorithm: str) -> None:
        # Somebody else may make it at the same time.
        with contextlib.suppress(AlreadyExists):
            await self._models.create(tenant, model_name, algorithm=algorithm)

    async def _call(
        self, verb: str, work: Callable[[Tenant], Awaitable[T]], *, repeatable: bool = True
    ) -> T:
        with self._timings.measured(verb):
            if repeatable:
                return await retry_transient(lambda: self._with_tenant(work))
            return await self._with_tenant(work)

    async def _with_tenant(self, work: Callable[[Tenant], Awaitable[T]]) -> T:
        """Does work that a stale row of the tenant refuses before it has changed anything."""
        for _ in range(_REREADS):
            try:
                return await work(self._tenant)
            except StaleTenant:
                self._tenant = await self._tenants.get(self._tenant.tenant_id)
        return await work(self._tenant)


def _read(path: Path, content_hash: str) -> bytes:
    try:
        model_data = path.read_bytes()
    except OSError as error:
        raise unreadable(error) from error
    check_hash(hashlib.sha256(model_data).hexdigest(), content_hash)
    return model_data
