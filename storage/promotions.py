"""Which version of which model serves a tenant: the newest promotion says it.

Whoever adds a promotion holds the tenant's lock for it, so that revisions become visible in their
order and nobody deletes a version at the moment at which it comes to serve.
"""

from dataclasses import replace

from storage.database import Connection, Database
from storage.exceptions import FailedPrecondition, NotFound
from storage.model_rows import PromotionRow, Serving
from storage.queries import load
from storage.sessions import changed
from storage.tenants import Tenant

_SQL = load("promotions")
_MODELS = load("models")


class PromotionStore:
    """The table model_promotions, for one tenant a call.

    Every method raises StaleTenant when the tenant's row has changed.

    Args:
        database: connections that see one tenant at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def serving(self, tenant: Tenant) -> Serving | None:
        """What serves now; None when no model does."""
        async with self._database.connection(tenant.tenant_id) as connection:
            return _if_any(await _newest(connection, tenant))

    async def promote(self, tenant: Tenant, name: str, version: str, reason: str) -> Serving:
        """Makes a version serve ("": none); what serves already is left as it is.

        Args:
            version: its name, or "latest".
            reason: for `promotions`, in a few words.

        Raises:
            NotFound: no active version of that name (VERSION_NOT_FOUND).
            FailedPrecondition: it has a problem (ARTEFACT_CORRUPT).
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            serving = await lock_promotions(connection, tenant)
            wanted = await _servable(connection, tenant, name, version) if version else None
            if wanted is None:
                return await serve_none(connection, tenant, serving, reason)
            if (serving.model_name, serving.version) == (name, wanted.version):
                return serving
            return await _add(connection, tenant, wanted, reason)

    async def promotions(self, tenant: Tenant, limit: int = 100) -> list[PromotionRow]:
        """The latest promotions, newest first."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_promotions"], tenant.tenant_id, tenant.version, limit
            )
        return [PromotionRow(**row) for row in rows]

    async def fall_back(self, tenant: Tenant, serving: Serving, problem: str) -> Serving | None:
        """Takes a version that cannot be served out of service.

        What served last before it, is active and has no problem serves then, or nothing. When
        something else serves by now, only the problem is noted. Repeating it changes nothing.

        Returns:
            What serves now.
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            now = await lock_promotions(connection, tenant)
            await connection.execute(
                _MODELS["set_problem"],
                *guard(tenant),
                serving.model_name,
                serving.version,
                problem,
            )
            if now.revision == serving.revision:
                now = await step_back(connection, tenant, now, f"fell back: {problem}")
            return _if_any(now)

    async def roll_back(self, tenant: Tenant, name: str, reason: str = "rolled back") -> Serving:
        """Goes back from a model's serving version to what served before it and still can.

        Rolled back again, it goes on from there: not to what the first rollback left.

        Raises:
            FailedPrecondition: no version of the model serves, or none that served before can
                (NO_PREVIOUS_VERSION).
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            serving = await lock_promotions(connection, tenant)
            if not serving.version or serving.model_name != name:
                raise FailedPrecondition(f"No version of the model {name!r} serves.")
            after = await step_back(connection, tenant, serving, reason)
            if not after.version:
                raise FailedPrecondition(
                    "No version that served before can serve.", reason="NO_PREVIOUS_VERSION"
                )
            return after


async def lock_promotions(connection: Connection, tenant: Tenant) -> Serving:
    """What serves until this transaction ends or changes it; version "": nothing."""
    await connection.execute(_SQL["lock_promotions"], *guard(tenant))
    return await _newest(connection, tenant)


async def serve_none(
    connection: Connection, tenant: Tenant, serving: Serving, reason: str
) -> Serving:
    """No model answers from here on (the lock is held)."""
    if not serving.version:
        return serving
    return await _add(connection, tenant, Serving(0, serving.model_name, "", "", 0), reason)


async def step_back(
    connection: Connection, tenant: Tenant, serving: Serving, reason: str
) -> Serving:
    """What served before and still can serves from here on, or nothing (the lock is held)."""
    row = await connection.fetchrow(_SQL["earlier_version"], tenant.tenant_id, serving.revision)
    if row is None:
        return await serve_none(connection, tenant, serving, reason)
    earlier = await _servable(connection, tenant, row["model_name"], row["version"])
    return await _add(connection, tenant, earlier, reason, returns_to=row["returns_to"])


async def _newest(connection: Connection, tenant: Tenant) -> Serving:
    row = await connection.fetchrow(_SQL["serving"], tenant.tenant_id, tenant.version)
    return Serving(0, "", "", "", 0) if row is None else Serving(**row)


def _if_any(serving: Serving) -> Serving | None:
    return serving if serving.version else None


async def _servable(connection: Connection, tenant: Tenant, name: str, version: str) -> Serving:
    row = await connection.fetchrow(
        _MODELS["get_version"], tenant.tenant_id, tenant.version, name, version, False
    )
    if row is None:
        raise no_version(name, version)
    if row["problem"]:
        raise FailedPrecondition(
            f"{name}@{row['version']} cannot serve: {row['problem']}", reason="ARTEFACT_CORRUPT"
        )
    return Serving(0, name, row["version"], row["content_hash"], row["size_bytes"])


async def _add(
    connection: Connection,
    tenant: Tenant,
    wanted: Serving,
    reason: str,
    *,
    returns_to: int | None = None,
) -> Serving:
    changed(connection, tenant.tenant_id)
    revision = await connection.fetchval(
        _SQL["promote"], tenant.tenant_id, wanted.model_name, wanted.version, reason, returns_to
    )
    return replace(wanted, revision=revision)


def guard(tenant: Tenant) -> tuple[str, int, int]:
    """The arguments of the guard of writing statements."""
    return (tenant.tenant_id, tenant.tenant_no, tenant.version)


def no_version(name: str, version: str) -> NotFound:
    """The error of a version that there is not."""
    return NotFound(
        f"The model {name!r} has no version {version!r}.",
        reason="VERSION_NOT_FOUND",
        metadata={"model": name, "version": version},
    )
