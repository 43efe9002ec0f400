"""grpc.health.v1 by what the service can do now: answer, take interactions, administrate."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from server.metrics import Metrics
from storage.ending import end

RECOMMENDATION_SERVICE = "penchant.v1.RecommendationService"
ANSWERING = ("", RECOMMENDATION_SERVICE)
"""Serve as long as any answer can be given, even a degraded one."""
STORING = (
    "penchant.v1.InteractionService",
    "penchant.v1.EntityService",
    "penchant.v1.AdminService",
    "penchant.v1.ApiKeyService",
    "penchant.v1.ModelService",
    "penchant.v1.EmbeddingService",
    "penchant.v1.DemandService",
    "penchant.v1.PrivacyService",
    "google.longrunning.Operations",
)
"""Serve while PostgreSQL does."""
WRITING = frozenset({"penchant.v1.InteractionService", "penchant.v1.EntityService"})
"""Those of them that serve only while it takes writes."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_CHECK_SECS = 0.5
_AWAY_INTERVAL_SECS = 0.5

_log = structlog.get_logger(__name__)


class DatabaseProbe(Protocol):
    """What can say whether PostgreSQL answers."""

    async def health_check(self) -> bool:
        """Whether it does."""
        ...

    @property
    def takes_writes(self) -> bool:
        """Whether it takes writes, by what is known since the last check."""
        ...


class CacheProbe(Protocol):
    """What can say whether Redis answers."""

    async def ping(self) -> bool:
        """Whether it does."""
        ...


class HealthMonitor:
    """Keeps the health service true: `prepare`, `start` and, at the end, `drain`.

    Args:
        database: checked every `interval_secs`, half a second at most; twice a second while it is
            away.
        cache: likewise; None: there is no Redis to miss. Without it the service is degraded.
        metrics: its gauge `penchant_degraded` follows both.
        can_answer: whether anything can be recommended without PostgreSQL; None: nothing can.
        interval_secs: between checks.
    """

    def __init__(
        self,
        database: DatabaseProbe,
        cache: CacheProbe | None,
        metrics: Metrics,
        *,
        can_answer: Callable[[], bool] | None = None,
        interval_secs: float = 1.0,
    ) -> None:
        self._database = database
        self._cache = cache
        self._metrics = metrics
        self._can_answer = can_answer
        self._interval_secs = interval_secs
        self._up: dict[str, bool] = {}
        self._shown: dict[str, bool] = {}
        self._watch: asyncio.Task[None] | None = None
        self.servicer = health_aio.HealthServicer()

    async def prepare(self) -> None:
        """Says NOT_SERVING for everything; grpc's servicer says SERVING by itself."""
        for service in (*ANSWERING, *STORING):
            await self._show(service, serving=False)

    async def start(self) -> None:
        """Checks once, and goes on checking until `drain`."""
        await self.check()
        self._watch = asyncio.create_task(self._check_for_ever())

    async def check(self) -> None:
        """One look at everything."""
        database, cache = await asyncio.gather(
            _bounded(self._database.health_check),
            _bounded(self._cache.ping) if self._cache is not None else _yes(),
        )
        writes = database and self._database.takes_writes
        self._note("postgresql", up=database)
        self._note("postgresql writes", up=writes)
        self._note("redis", up=cache)
        for service in STORING:
            await self._show(service, serving=writes if service in WRITING else database)
        answers = database or (self._can_answer is not None and self._can_answer())
        for service in ANSWERING:
            await self._show(service, serving=answers)

    async def drain(self) -> None:
        """Says NOT_SERVING for everything, for good."""
        await end(self._watch)
        await self.servicer.enter_graceful_shutdown()

    async def _check_for_ever(self) -> None:
        while True:
            away = not self._up["postgresql"]
            await asyncio.sleep(
                min(self._interval_secs, _AWAY_INTERVAL_SECS) if away else self._interval_secs
            )
            await self.check()

    def _note(self, component: str, *, up: bool) -> None:
        if self._up.get(component, True) != up:
            if up:
                _log.info("component is back", component=component)
            else:
                _log.warning("component is away", component=component)
        self._up[component] = up
        self._metrics.degraded.labels(component).set(0 if up else 1)

    async def _show(self, service: str, *, serving: bool) -> None:
        if self._shown.get(service) != serving:
            self._shown[service] = serving
            await self.servicer.set(service, _SERVING if serving else _NOT_SERVING)


async def _bounded(check: Callable[[], Awaitable[bool]]) -> bool:
    with contextlib.suppress(Exception):  # a check that fails in whatever way says no
        async with asyncio.timeout(_CHECK_SECS):
            return await check()
    return False


async def _yes() -> bool:
    return True
