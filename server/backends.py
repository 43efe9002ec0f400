"""PostgreSQL and Redis for a command: those configured, else the bundled ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from engine.administration import DEFAULT_DIMENSION
from server.settings import Settings
from storage.api_keys import ApiKeyStore
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.embedded import EmbeddedServers
from storage.ending import end
from storage.exceptions import AlreadyExists
from storage.migrations import MigrationRunner
from storage.tenants import TenantStore


@asynccontextmanager
async def backends(settings: Settings, *, redis: bool = True) -> AsyncIterator[Settings]:
    """Settings with both URLs filled, and `several_hosts`.

    Bundled servers that this starts stop at the end; one that dies before is started again.

    Args:
        redis: whether a Redis is wanted at all.

    Raises:
        Unavailable: a bundled server does not start.
    """
    needs_postgres = settings.database.url is None
    needs_redis = redis and settings.cache.url is None
    if settings.several_hosts is None:
        settings = settings.model_copy(update={"several_hosts": not needs_postgres})
    if not (needs_postgres or needs_redis):
        yield settings
        return
    servers = await EmbeddedServers.start(
        settings.data_dir, postgres=needs_postgres, redis=needs_redis
    )
    keeper = asyncio.create_task(servers.keep_running())
    try:
        changes: dict[str, object] = {}
        if servers.database_url is not None:
            url = SecretStr(servers.database_url)
            changes["database"] = settings.database.model_copy(update={"url": url})
        if servers.redis_url is not None:
            changes["cache"] = settings.cache.model_copy(
                update={"url": SecretStr(servers.redis_url)}
            )
        yield settings.model_copy(update=changes)
    finally:
        await end(keeper)
        await servers.stop()


async def has_keys(settings: Settings) -> bool:
    """Whether an API key was ever made; the schema must be up to date.

    Raises:
        Unavailable: PostgreSQL is away.
    """
    one = settings.database.model_copy(update={"min_connections": 1, "max_connections": 1})
    async with Database(one, role=MAINTENANCE_ROLE) as maintenance:
        return (await ApiKeyStore(maintenance).mark()).count > 0


async def bootstrap(settings: Settings) -> None:
    """Brings the schema up to date where that is configured, and makes the first tenant.

    Raises:
        MigrationError: the schema cannot be brought up to date.
    """
    if settings.migrations.auto_run:
        await MigrationRunner(settings.database, settings.migrations).run_migrations()
    if not settings.create_default_tenant:
        return
    one = settings.database.model_copy(update={"min_connections": 1, "max_connections": 1})
    async with (
        Database(one, role=SERVICE_ROLE) as service,
        Database(one, role=MAINTENANCE_ROLE) as maintenance,
    ):
        store = TenantStore(service, maintenance)
        count, _ = await store.only()
        if count == 0:
            try:
                await store.create(settings.default_tenant, dimension=DEFAULT_DIMENSION)
            except AlreadyExists:
                return  # another process made it, or it was erased and stays so
