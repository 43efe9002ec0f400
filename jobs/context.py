"""What the jobs work with: connections under three roles, and the stores on them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import SecretStr

from engine.receipts import ReceiptSigner
from engine.secret import ServerSecret
from engine.tenants import TenantDirectory
from storage.artefacts import ArtefactStore
from storage.cached_answers import CachedAnswers
from storage.config import DatabaseConfig, RedisCacheConfig
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.erasure import ErasureStore
from storage.index_quality import IndexQualityStore
from storage.installation import artefacts_of
from storage.interactions import InteractionStore
from storage.models import ModelStore
from storage.placements import PlacementStore
from storage.predictions import PredictionCache
from storage.quotas import QuotaStore
from storage.retention import RetentionStore
from storage.tenants import Tenant, TenantStore
from storage.trends import TrendStore
from storage.users import ProfileMaintenance
from storage.version_slots import VersionSlots
from storage.warming import WarmingStore

T = TypeVar("T")

_CONNECTIONS = 4
_TENANTS_A_PAGE = 1_000


class JobSettings(Protocol):
    """What the jobs need to be told; all intervals in seconds."""

    @property
    def database(self) -> DatabaseConfig:
        """Where PostgreSQL is."""

    @property
    def data_dir(self) -> Path:
        """Below it, in models, lie the artefacts."""

    @property
    def key_pepper(self) -> SecretStr | None:
        """What all keyed hashes derive from; None: a file in the data directory."""

    @property
    def signing_key_file(self) -> Path | None:
        """The key that signs receipts, in PEM; None: it derives from the pepper."""

    @property
    def cache(self) -> RedisCacheConfig:
        """Where Redis is, if there is one."""

    @property
    def trending_interval_secs(self) -> float:
        """Between refreshes of trending and popular entities."""

    @property
    def profile_interval_secs(self) -> float:
        """Between refreshes of preference vectors."""

    @property
    def neighbours_interval_secs(self) -> float:
        """Between refreshes of item-to-item neighbours."""

    @property
    def placement_interval_secs(self) -> float:
        """Between looks for tenants that have outgrown the shared placement."""

    @property
    def quota_interval_secs(self) -> float:
        """Between measurements of what tenants with quotas store."""

    @property
    def retention_interval_secs(self) -> float:
        """Between rounds of housekeeping."""

    @property
    def operation_poll_secs(self) -> float:
        """Between looks for long work."""

    @property
    def training_concurrency(self) -> int:
        """Operations that one process runs at a time."""

    @property
    def training_threads(self) -> int:
        """Threads of a trainer; 0: one a processor."""

    @property
    def training_memory_mb(self) -> int:
        """Memory of a trainer in MiB; 0: not bounded."""

    @property
    def index_quality_interval_secs(self) -> float:
        """Between comparisons of vector indexes with exact search."""

    @property
    def own_placement_threshold(self) -> int:
        """Entities beyond which a tenant gets a placement of its own."""

    @property
    def audit_days(self) -> int:
        """Days for which events of the audit are kept; 0: for ever."""

    @property
    def answer_log_days(self) -> int:
        """Days for which logged answers are kept."""

    @property
    def idempotency_window_days(self) -> int:
        """Days for which interaction ids are remembered."""


@dataclass(slots=True)
class Pace:
    """Where a job stands, in this process.

    Attributes:
        looked_at: when it last looked for tenants with new interactions, and served all of them.
        rested_until: monotonic time before which a tenant is left alone.
    """

    looked_at: datetime | None = None
    rested_until: dict[str, float] = field(default_factory=dict)


class JobContext:
    """Connected stores for the jobs.

    Args:
        owner: connections of the schema's owner, for moves and partitions.
        maintenance: connections that see all tenants.
        service: connections that see one tenant at a time.
        settings: intervals and limits.
        artefacts: of the trained models.
    """

    def __init__(
        self,
        owner: Database,
        maintenance: Database,
        service: Database,
        settings: JobSettings,
        artefacts: ArtefactStore,
    ) -> None:
        self.owner = owner
        self.maintenance = maintenance
        self.service = service
        self.settings = settings
        self.secret = ServerSecret(settings.data_dir, settings.key_pepper)
        self.tenants = TenantStore(service, maintenance)
        self._directory = TenantDirectory(self.tenants)
        self.trends = TrendStore(maintenance)
        self.profiles = ProfileMaintenance(maintenance)
        self.interactions = InteractionStore(service)
        self.quotas = QuotaStore(service, maintenance)
        self.placements = PlacementStore(owner, maintenance)
        self.index_quality = IndexQualityStore(owner, maintenance)
        self.warming = WarmingStore(maintenance)
        self.retention = RetentionStore(owner, maintenance)
        self.erasures = ErasureStore(service, maintenance)
        self.signer = ReceiptSigner(self.secret, settings.signing_key_file)
        self.cached = None if settings.cache.url is None else CachedAnswers(settings.cache)
        self.models = ModelStore(service, maintenance)
        self.artefacts = artefacts
        self.predictions = PredictionCache(service, maintenance)
        self._paces: dict[str, Pace] = {}

    def pace(self, job: str) -> Pace:
        """Where a job stands."""
        return self._paces.setdefault(job, Pace())

    async def all_tenants(self) -> list[Tenant]:
        """Every active tenant, in byte order of the ids."""
        tenants: list[Tenant] = []
        while page := await self.tenants.page(
            tenants[-1].tenant_id if tenants else "", _TENANTS_A_PAGE
        ):
            tenants += page
        return tenants

    async def with_tenant(self, tenant: Tenant, work: Callable[[Tenant], Awaitable[T]]) -> T:
        """Does work that may be repeated, as `TenantDirectory.run` does it."""
        return await self._directory.run(tenant, work)


@asynccontextmanager
async def job_context(settings: JobSettings) -> AsyncIterator[JobContext]:
    """Connects, with few connections, and closes them in the end.

    Raises:
        Unavailable: PostgreSQL is away.
        FailedPrecondition: it refuses, or is not migrated yet.
    """
    config = settings.database.model_copy(
        update={"max_connections": _CONNECTIONS, "min_connections": 0}
    )
    slots = VersionSlots(settings.data_dir)
    async with AsyncExitStack() as stack:
        owner, maintenance, service = [
            await stack.enter_async_context(Database(config, role=role, slots=slots))
            for role in (None, MAINTENANCE_ROLE, SERVICE_ROLE)
        ]
        artefacts = await artefacts_of(settings.data_dir, service)
        yield JobContext(owner, maintenance, service, settings, artefacts)
