"""What the servicers work with: opened once a worker, closed with it."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.administration import Administration
from engine.catalogue import Catalogue
from engine.demand import DemandForecaster
from engine.embeddings import Embeddings
from engine.ingest import InteractionLog
from engine.recommender import Recommender
from engine.registry import ModelRegistry
from engine.registry_transfer import ModelTransfers
from engine.shelf import ModelShelf
from engine.similar import SimilarityFinder
from engine.tenants import TenantDirectory
from engine.trainings import Trainings
from server.settings import Settings
from storage.artefacts import ArtefactStore
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.demand import DemandStore
from storage.embeddings import EmbeddingStore
from storage.entities import EntityStore
from storage.installation import artefacts_of
from storage.interactions import InteractionStore
from storage.migrations import MigrationRunner
from storage.models import ModelStore
from storage.operations import OperationStore
from storage.redis_cache import RedisCache
from storage.tenants import TenantStore
from storage.users import UserStore
from storage.vector_store import VectorStore

_MAINTENANCE_CONNECTIONS = 3


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of one worker. `cache` is None where no Redis is configured."""

    database: Database
    maintenance: Database
    cache: RedisCache | None
    artefacts: ArtefactStore
    tenants: TenantDirectory
    catalogue: Catalogue
    log: InteractionLog
    recommender: Recommender
    finder: SimilarityFinder
    administration: Administration
    migrations: MigrationRunner
    registry: ModelRegistry
    trainings: Trainings
    transfers: ModelTransfers
    embeddings: Embeddings
    demand: DemandForecaster


def build_deps(
    settings: Settings,
    database: Database,
    maintenance: Database,
    cache: RedisCache | None,
    artefacts: ArtefactStore,
) -> Deps:
    """Puts the parts together over open connections."""
    store = TenantStore(database, maintenance)
    tenants = TenantDirectory(store)
    entities, users, vectors = EntityStore(database), UserStore(database), VectorStore(database)
    models = ModelStore(database, maintenance)
    trainings = Trainings(tenants, models, OperationStore(database, maintenance))
    return Deps(
        database=database,
        maintenance=maintenance,
        cache=cache,
        artefacts=artefacts,
        tenants=tenants,
        catalogue=Catalogue(tenants, entities),
        log=InteractionLog(tenants, InteractionStore(database)),
        recommender=Recommender(
            tenants=tenants,
            entities=entities,
            users=users,
            vectors=vectors,
            shelf=ModelShelf(models, artefacts),
            cache=cache,
            cold_start_interactions=settings.cold_start_interactions,
            cache_ttl_secs=settings.result_cache_ttl_secs,
        ),
        finder=SimilarityFinder(
            tenants=tenants,
            entities=entities,
            users=users,
            vectors=vectors,
            cold_start_interactions=settings.cold_start_interactions,
        ),
        administration=Administration(tenants, store, users),
        migrations=MigrationRunner(settings.database, settings.migrations),
        registry=ModelRegistry(tenants, models, artefacts, trainings),
        trainings=trainings,
        transfers=ModelTransfers(tenants, models, artefacts),
        embeddings=Embeddings(tenants, EmbeddingStore(database)),
        demand=DemandForecaster(tenants, DemandStore(database)),
    )


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Deps]:
    """Opens the connections and builds the parts; closes them at the end.

    Raises:
        Unavailable: PostgreSQL stayed away for `connect_timeout_secs`.
    """
    few = settings.database.model_copy(
        update={"min_connections": 1, "max_connections": _MAINTENANCE_CONNECTIONS}
    )
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(settings.database, role=SERVICE_ROLE))
        maintenance = await stack.enter_async_context(Database(few, role=MAINTENANCE_ROLE))
        cache = RedisCache(settings.cache) if settings.cache.url is not None else None
        if cache is not None:
            stack.push_async_callback(cache.close)
        artefacts = await artefacts_of(settings.data_dir, database)
        yield build_deps(settings, database, maintenance, cache, artefacts)
