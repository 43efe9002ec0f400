"""What the servicers work with: opened once a worker, closed with it."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.administration import Administration
from engine.answer_replay import AnswerArchive
from engine.answer_writer import AnswerWriter
from engine.api_keys import ApiKeys
from engine.audit import AuditLog
from engine.catalogue import Catalogue
from engine.demand import DemandForecaster
from engine.embeddings import Embeddings
from engine.erasure import Privacy
from engine.erasure_watch import ErasureWatch
from engine.gathering import Gatherer
from engine.ingest import InteractionLog
from engine.integrity import Integrity
from engine.key_ring import TRUSTED_SECS, KeyRing
from engine.key_text import KeyHasher
from engine.known_catalogue import KnownCatalogue
from engine.known_situations import KnownSituations
from engine.last_good import LastGood
from engine.quotas import TenantQuotas
from engine.rate import RequestRates
from engine.rate_sharing import sharing
from engine.receipts import ReceiptSigner
from engine.recommender import Recommender
from engine.registry import ModelRegistry
from engine.registry_transfer import ModelTransfers
from engine.secret import ServerSecret
from engine.shelf import ModelShelf
from engine.similar import SimilarityFinder
from engine.tenants import TenantDirectory
from engine.tombstones import Tombstones
from engine.trainings import Trainings
from engine.turns import Turns
from server.attributes import forget_attributes
from server.renewals import Renewals
from server.settings import Settings
from server.tokens import TokenVerifier, token_verifier
from server.wire_cache import WireCache
from storage.answer_log import AnswerLogStore
from storage.api_keys import ApiKeyStore
from storage.artefacts import ArtefactStore
from storage.audit import AuditStore
from storage.cached_answers import CachedAnswers
from storage.database import MAINTENANCE_ROLE, Database
from storage.demand import DemandStore
from storage.embeddings import EmbeddingStore
from storage.entities import EntityStore
from storage.erasure import ErasureStore
from storage.installation import artefacts_of
from storage.integrity import IntegrityStore
from storage.interactions import InteractionStore
from storage.migrations import MigrationRunner
from storage.models import ModelStore
from storage.operations import OperationStore
from storage.quotas import QuotaStore
from storage.redis_cache import RedisCache
from storage.redis_rates import RedisRates
from storage.tenants import TenantStore
from storage.users import UserStore
from storage.vector_store import VectorStore
from storage.version_slots import VersionSlots

_MAINTENANCE_CONNECTIONS = 3
_SITUATIONS_SHARE = 12  # of the memory for catalogues: what is known of users has so much of it


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
    last_good: LastGood
    answer_writer: AnswerWriter
    answers: AnswerArchive
    recommender: Recommender
    finder: SimilarityFinder
    administration: Administration
    quotas: TenantQuotas
    rates: RequestRates
    wire_cache: WireCache
    renewals: Renewals
    migrations: MigrationRunner
    registry: ModelRegistry
    trainings: Trainings
    transfers: ModelTransfers
    embeddings: Embeddings
    demand: DemandForecaster
    privacy: Privacy
    erasure_watch: ErasureWatch
    known_catalogue: KnownCatalogue
    secret: ServerSecret
    audit: AuditLog
    integrity: Integrity
    tokens: TokenVerifier | None
    keys: ApiKeys
    key_ring: KeyRing


def build_deps(
    settings: Settings,
    database: Database,
    maintenance: Database,
    cache: RedisCache | None,
    artefacts: ArtefactStore,
    tokens: TokenVerifier | None,
) -> Deps:
    """Puts the parts together over open connections."""
    store = TenantStore(database, maintenance)
    tenants = TenantDirectory(store)
    entities, users, vectors = EntityStore(database), UserStore(database), VectorStore(database)
    models = ModelStore(database, maintenance)
    quotas = QuotaStore(database, maintenance)
    answer_log = AnswerLogStore(database, maintenance)
    last_good = LastGood(settings.degraded_max_age_secs)
    trainings = Trainings(tenants, models, OperationStore(database, maintenance))
    secret = ServerSecret(settings.data_dir, settings.key_pepper)
    tombstones, erasures = Tombstones(secret), ErasureStore(database, maintenance)
    answer_writer = AnswerWriter(
        answer_log,
        tombstones,
        share=settings.answer_log_sample,
        days=settings.answer_log_days,
    )
    turns = Turns()
    of_users = settings.known_catalogue_bytes // _SITUATIONS_SHARE
    known = KnownCatalogue(vectors, settings.known_catalogue_bytes - of_users)
    situations = KnownSituations(of_users)
    renewals = Renewals(settings.default_deadline_secs)
    wire_cache = WireCache(
        users, settings.wire_cache_bytes, settings.result_cache_ttl_secs, renewals.start
    )
    keys, hasher = ApiKeyStore(maintenance), KeyHasher(secret)
    audit = AuditLog(AuditStore(database, maintenance), secret)
    return Deps(
        database=database,
        maintenance=maintenance,
        cache=cache,
        artefacts=artefacts,
        tenants=tenants,
        catalogue=Catalogue(tenants, entities, tombstones),
        log=InteractionLog(tenants, InteractionStore(database), tombstones),
        last_good=last_good,
        answer_writer=answer_writer,
        answers=AnswerArchive(tenants, answer_log),
        recommender=Recommender(
            tenants=tenants,
            users=users,
            vectors=vectors,
            gatherer=Gatherer(vectors, known),
            turns=turns,
            shelf=ModelShelf(models, artefacts),
            cache=cache,
            last_good=last_good,
            answer_log=answer_writer,
            situations=situations,
            cold_start_interactions=settings.cold_start_interactions,
            cache_ttl_secs=settings.result_cache_ttl_secs,
        ),
        finder=SimilarityFinder(
            last_good=last_good,
            tenants=tenants,
            entities=entities,
            users=users,
            vectors=vectors,
            turns=turns,
            cold_start_interactions=settings.cold_start_interactions,
        ),
        administration=Administration(tenants, store, users),
        quotas=TenantQuotas(tenants, quotas),
        rates=RequestRates(settings.workers),
        wire_cache=wire_cache,
        renewals=renewals,
        migrations=MigrationRunner(settings.database, settings.migrations),
        registry=ModelRegistry(tenants, models, artefacts, trainings),
        trainings=trainings,
        transfers=ModelTransfers(tenants, models, artefacts, quotas),
        embeddings=Embeddings(tenants, EmbeddingStore(database), tombstones),
        demand=DemandForecaster(tenants, DemandStore(database)),
        privacy=Privacy(
            tenants=tenants,
            store=erasures,
            models=models,
            trainings=trainings,
            tombstones=tombstones,
            signer=ReceiptSigner(secret, settings.signing_key_file),
            cached=None if settings.cache.url is None else CachedAnswers(settings.cache),
            last_good=last_good,
        ),
        erasure_watch=ErasureWatch(
            erasures,
            tombstones,
            last_good,
            (wire_cache.sweep, known.clear, situations.clear, forget_attributes),
        ),
        known_catalogue=known,
        secret=secret,
        audit=audit,
        integrity=Integrity(
            tenants,
            IntegrityStore(maintenance),
            artefacts,
            tombstones,
            audit.user,
            settings.idempotency_window_days,
        ),
        tokens=tokens,
        keys=ApiKeys(keys, hasher),
        # Last good answers are worth nothing to callers whose keys have run out.
        key_ring=KeyRing(
            keys, hasher, trusted_secs=max(TRUSTED_SECS, settings.degraded_max_age_secs)
        ),
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
    slots = VersionSlots(settings.data_dir, several_hosts=settings.several_hosts is not False)
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(settings.database, slots=slots))
        maintenance = await stack.enter_async_context(
            Database(few, role=MAINTENANCE_ROLE, beside=database)
        )
        cache = RedisCache(settings.cache) if settings.cache.url is not None else None
        if cache is not None:
            stack.push_async_callback(cache.close)
        artefacts = await artefacts_of(settings.data_dir, database)
        tokens = await stack.enter_async_context(token_verifier(settings))
        deps = build_deps(settings, database, maintenance, cache, artefacts, tokens)
        stack.push_async_callback(deps.answer_writer.close)
        stack.push_async_callback(deps.known_catalogue.close)
        stack.push_async_callback(deps.renewals.close)
        await stack.enter_async_context(deps.erasure_watch)
        if settings.cache.url is not None:
            store = RedisRates(settings.cache, settings.workers)
            await stack.enter_async_context(sharing(deps.rates, store))
        yield deps
