"""The service as benchmarks need it: filled, with keys and quotas, started anew by its settings."""

import asyncio
import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import redis.asyncio as redis
from penchant.v1 import admin_pb2, api_key_pb2
from penchant.v1.admin_pb2_grpc import AdminServiceStub
from penchant.v1.api_key_pb2_grpc import ApiKeyServiceStub

from benchmarks.console import Steps
from benchmarks.h2load import Metadata
from benchmarks.processes import SERVER_CORE, children, pin
from benchmarks.service import INTERACTION_TYPE
from server.backends import backends
from server.processes import running_service
from server.settings import Settings
from storage.config import DatabaseConfig, RedisCacheConfig
from storage.driver_types import OwnConnection

PLENTY = admin_pb2.Quotas(
    requests_per_second=1e6, entities=10**9, interactions_per_day=10**9, stored_bytes=10**15
)
"""Quotas that are counted and never reached."""

NEVER_SECS = 1e6
_AN_HOUR = 3600.0
_COUNTED_SECS = 0.2  # workers bring their counters up to date ten times a second
_CALLS = re.compile(r'^penchant_calls_total\{code="(\w+)",[^}]*\} (\S+)$', re.MULTILINE)
CACHES: dict[str, dict[str, object]] = {
    "all": {"result_cache_ttl_secs": _AN_HOUR},
    "redis": {"result_cache_ttl_secs": _AN_HOUR, "wire_cache_bytes": 0},
    "none": {"result_cache_ttl_secs": 0.0, "wire_cache_bytes": 0},
}
"""Settings by what may answer without computing."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def known(changes: dict[str, Any]) -> dict[str, Any]:
    """Those of some settings that this version has."""
    return {name: value for name, value in changes.items() if name in Settings.model_fields}


@dataclass(frozen=True, slots=True)
class Serving:
    """The service while it runs."""

    settings: Settings
    channel: grpc.aio.Channel
    workers: tuple[int, ...]

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.settings.port}"

    async def codes(self) -> dict[str, float]:
        """How many calls ended with which status since the start."""

        def read() -> dict[str, float]:
            url = f"http://127.0.0.1:{self.settings.metrics_port}/metrics"
            time.sleep(_COUNTED_SECS)
            with urllib.request.urlopen(url) as answer:
                text = answer.read().decode()
            counts: dict[str, float] = {}
            for code, value in _CALLS.findall(text):
                counts[code] = counts.get(code, 0.0) + float(value)
            return counts

        return await asyncio.to_thread(read)


class World:
    """PostgreSQL and Redis over one directory, and the service on them, one at a time.

    What was filled is remembered in the directory: who keeps it does not fill again.

    Args:
        settings: with the backends' URLs.
        postgres: asyncpg's, as the owner.
        steps: told what is done.
    """

    def __init__(
        self, settings: Settings, postgres: OwnConnection, redis_pid: int, steps: Steps
    ) -> None:
        self.settings = settings
        self.postgres = postgres
        self.steps = steps
        self._redis_pid = redis_pid
        self._postmaster = 0
        self._file = settings.data_dir / "world.json"
        self._known: dict[str, Any] = {"operator": "", "keys": {}, "filled": {}}
        if self._file.exists():
            self._known = json.loads(self._file.read_text())
        self._stack = AsyncExitStack()
        self._serving: tuple[object, Serving] | None = None

    @property
    def url(self) -> str:
        """Of PostgreSQL."""
        assert self.settings.database.url is not None
        return self.settings.database.url.get_secret_value()

    @property
    def redis_url(self) -> str:
        """Of Redis."""
        assert self.settings.cache.url is not None
        return self.settings.cache.url.get_secret_value()

    def backend_pids(self) -> Sequence[int]:
        """PostgreSQL's processes, and Redis."""
        if not self._postmaster:
            (pid_file,) = self.settings.data_dir.rglob("postmaster.pid")
            self._postmaster = int(pid_file.read_text().split()[0])
        return [self._redis_pid, self._postmaster, *children(self._postmaster)]

    async def serve(self, caches: str = "all", workers: int = 1, **changes: Any) -> Serving:
        """The service with some caches; one that runs so already is taken, another is stopped.

        One worker has the servers' core; several run anywhere, as PostgreSQL and Redis always do.
        """
        wanted = (caches, workers, tuple(sorted(changes.items())))
        if self._serving is not None and self._serving[0] == wanted:
            return self._serving[1]
        await self.stop()
        if caches == "none":
            # A service that keeps nothing in Redis finds what another kept there before.
            async with redis.Redis.from_url(self.redis_url) as client:
                await client.flushall()
        update = {"workers": workers, "metrics_port": free_port(), **CACHES[caches], **changes}
        settings = await self._stack.enter_async_context(
            running_service(self.settings.model_copy(update=known(update)))
        )
        channel = await self._stack.enter_async_context(
            grpc.aio.insecure_channel(
                f"127.0.0.1:{settings.port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
        )
        pids = self.workers()
        for pid in pids:
            pin(pid, SERVER_CORE if workers == 1 else None)
        serving = Serving(settings, channel, pids)
        self._serving = wanted, serving
        if not self._known["operator"]:
            # Nobody needs a key before there is one.
            self._known["operator"] = await self._make_key(channel, "", "operator", ())
            self._remember()
        return serving

    async def some(self) -> Serving:
        """The service as it runs now, or with all caches."""
        return await self.serve() if self._serving is None else self._serving[1]

    @staticmethod
    def workers() -> tuple[int, ...]:
        """The processes of the service's workers."""
        return tuple(children(os.getpid(), "server.worker"))

    async def stop(self) -> None:
        """Stops the service, if it runs."""
        self._serving = None
        await self._stack.aclose()

    def operator(self, tenant: str = "") -> Metadata:
        """What the operator sends, for a tenant or none."""
        key = (("authorization", f"Bearer {self._known['operator']}"),)
        return (*key, ("x-tenant-id", tenant)) if tenant else key

    def caller(self, tenant: str) -> Metadata:
        """What a caller of the tenant sends."""
        return (("authorization", f"Bearer {self._known['keys'][tenant]}"),)

    def has_key(self, tenant: str) -> bool:
        """Whether the tenant was made here."""
        return tenant in self._known["keys"]

    async def create_tenant(self, serving: Serving, tenant: admin_pb2.Tenant) -> None:
        """A tenant with its type of interaction, quotas and a key that may read and ingest."""
        admin, operator = AdminServiceStub(serving.channel), self.operator()
        await admin.CreateTenant(admin_pb2.CreateTenantRequest(tenant=tenant), metadata=operator)
        kind = admin_pb2.InteractionType(interaction_type=INTERACTION_TYPE, weight=1.0)
        await admin.SetInteractionType(
            admin_pb2.SetInteractionTypeRequest(tenant_id=tenant.tenant_id, interaction_type=kind),
            metadata=operator,
        )
        await admin.SetQuotas(
            admin_pb2.SetQuotasRequest(tenant_id=tenant.tenant_id, quotas=PLENTY),
            metadata=operator,
        )
        self._known["keys"][tenant.tenant_id] = await self._make_key(
            serving.channel, tenant.tenant_id, "recommend:read interactions:write", operator
        )
        self._remember()

    async def _make_key(
        self, channel: grpc.aio.Channel, tenant: str, scopes: str, metadata: Metadata
    ) -> str:
        key = api_key_pb2.ApiKey(tenant_id=tenant, scopes=scopes.split())
        made = await ApiKeyServiceStub(channel).CreateApiKey(
            api_key_pb2.CreateApiKeyRequest(api_key=key), metadata=metadata
        )
        return str(made.secret)

    def filled(self, what: str) -> dict[str, Any] | None:
        """What was told of something when it was filled; None: it was not yet."""
        told: dict[str, Any] | None = self._known["filled"].get(what)
        return told

    def note_filled(self, what: str, told: dict[str, Any]) -> None:
        """Remembers that something is there."""
        self._known["filled"][what] = told
        self._remember()

    def _remember(self) -> None:
        self._file.write_text(json.dumps(self._known))


@asynccontextmanager
async def world(directory: Path, steps: Steps) -> AsyncIterator[World]:
    """The bundled servers in a directory, to the end of the block."""
    settings = Settings(
        port=0,
        data_dir=directory,
        log_format="json",
        trending_interval_secs=NEVER_SECS,
        profile_interval_secs=NEVER_SECS,
        neighbours_interval_secs=NEVER_SECS,
        placement_interval_secs=NEVER_SECS,
        index_quality_interval_secs=NEVER_SECS,
        quota_interval_secs=NEVER_SECS,
        retention_interval_secs=NEVER_SECS,
        # Streams that load for long must not be cut, nor connections that are measured.
        max_connection_age_secs=6 * _AN_HOUR,
        database=DatabaseConfig(url=None),
        cache=RedisCacheConfig(url=None),
    )
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(backends(settings))
        made = World(settings, *await _connected(settings, stack), steps)
        stack.push_async_callback(made.stop)
        yield made


async def _connected(settings: Settings, stack: AsyncExitStack) -> tuple[OwnConnection, int]:
    assert settings.database.url is not None
    assert settings.cache.url is not None
    postgres = await asyncpg.connect(settings.database.url.get_secret_value())
    stack.push_async_callback(postgres.close)
    async with redis.Redis.from_url(settings.cache.url.get_secret_value()) as client:
        return postgres, int((await client.info("server"))["process_id"])
