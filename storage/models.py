"""Models and their versions; what a version is made of lies in `storage.artefacts`."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

import orjson

from storage.database import MAINTENANCE_ROLE, Database
from storage.exceptions import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from storage.model_rows import (
    ModelChanges,
    ModelRow,
    PromotionRow,
    Serving,
    StorageStats,
    VersionRow,
    model_row,
    version_row,
)
from storage.promotions import (
    PromotionStore,
    guard,
    lock_promotions,
    no_version,
    serve_none,
    step_back,
)
from storage.queries import load
from storage.tenants import Tenant

__all__ = [
    "LATEST",
    "ModelChanges",
    "ModelRow",
    "ModelStore",
    "PromotionRow",
    "Serving",
    "StorageStats",
    "VersionRow",
]

LATEST = "latest"
"""The version name that stands for a model's newest active version."""

_SQL = load("models")
_COLUMNS = tuple(ModelChanges.__annotations__)
_MAX_VERSION = 2**31 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ModelStore(PromotionStore):
    """The tables models, ml_models and, inherited, model_promotions, for one tenant a call.

    Every method but `hashes_in_use` raises StaleTenant when the tenant's row has changed.

    Args:
        database: connections that see one tenant at a time.
        maintenance: connections that see all tenants; only `hashes_in_use` needs them.
    """

    def __init__(self, database: Database, maintenance: Database | None = None) -> None:
        super().__init__(database)
        self._maintenance = maintenance

    async def create(
        self,
        tenant: Tenant,
        name: str,
        *,
        algorithm: str,
        hyperparameters: Mapping[str, Any] | None = None,
        schedule: str = "",
        next_run_at: datetime | None = None,
        promotion: str = "if_not_worse",
        keep_versions: int = 5,
        retention_days: int = 90,
    ) -> ModelRow:
        """Makes a model. A deleted model's name may be taken again; its numbers go on then.

        Raises:
            InvalidArgument: the name is malformed.
            AlreadyExists: the tenant has a model of that name (MODEL_EXISTS).
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgument.field(
                "model.name",
                'must be a letter or digit, then up to 62 letters, digits, ".", "_" or "-"',
            )
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["create_model"],
                *guard(tenant),
                name,
                algorithm,
                _json(hyperparameters or {}),
                schedule,
                next_run_at,
                promotion,
                keep_versions,
                retention_days,
            )
        if row is None:
            raise AlreadyExists(
                f"There is a model {name!r} already.",
                reason="MODEL_EXISTS",
                metadata={"model": name},
            )
        return model_row(row)

    async def get(self, tenant: Tenant, name: str) -> ModelRow:
        """A model; NotFound (MODEL_NOT_FOUND) when there is none or it is deleted."""
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["get_model"], tenant.tenant_id, tenant.version, name
            )
        if row is None:
            raise _no_model(name)
        return model_row(row)

    async def page(
        self, tenant: Tenant, after: str, limit: int, *, deleted: bool = False
    ) -> list[ModelRow]:
        """Models after a name, in byte order; with the deleted ones if asked."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_models"], tenant.tenant_id, tenant.version, after, deleted, limit
            )
        return [model_row(row) for row in rows]

    async def update(self, tenant: Tenant, name: str, **changes: Unpack[ModelChanges]) -> ModelRow:
        """Changes the given columns; NotFound (MODEL_NOT_FOUND) when there is no such model."""
        given: Mapping[str, Any] = changes
        values = {column: given.get(column) for column in _COLUMNS}
        values["hyperparameters"] = _json(values["hyperparameters"] or {})
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["update_model"], *guard(tenant), name, sorted(given), *values.values()
            )
        if row is None:
            raise _no_model(name)
        return model_row(row)

    async def delete(self, tenant: Tenant, name: str, *, force: bool = False) -> None:
        """Retires a model and its versions; the rows stay until `clean_up`.

        Args:
            force: also when one of its versions serves; then none serves afterwards.

        Raises:
            NotFound: there is none, or it is deleted already (MODEL_NOT_FOUND).
            FailedPrecondition: one of its versions serves (MODEL_SERVING).
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            serving = await lock_promotions(connection, tenant)
            if serving.version and serving.model_name == name:
                if not force:
                    raise _serves(serving, "without it Recommend is answered by no model")
                await serve_none(connection, tenant, serving, "the model was deleted")
            gone = await connection.fetchval(_SQL["delete_model"], tenant.tenant_id, name)
            if gone is None:
                raise _no_model(name)

    async def add_version(
        self,
        tenant: Tenant,
        name: str,
        *,
        manifest: Mapping[str, Any],
        metadata: Mapping[str, Any],
        content_hash: str,
        size_bytes: int,
        version: str | None = None,
    ) -> VersionRow:
        """Adds a version whose artefact is kept.

        Args:
            version: its name; None: the next number. A number counts as given out with all below.

        Raises:
            NotFound: there is no such model (MODEL_NOT_FOUND).
            AlreadyExists: the version was given before.
        """
        number = None
        if version is not None:
            if not version or len(version) > 50 or version == LATEST:
                raise InvalidArgument.field("version", "1 to 50 characters other than latest")
            number = int(version) if version.isascii() and version.isdecimal() else None
            if number is not None and number > _MAX_VERSION:
                raise InvalidArgument.field("version", f"a number up to {_MAX_VERSION}")
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["add_version"],
                *guard(tenant),
                name,
                version,
                number,
                orjson.dumps(manifest),
                _json(metadata),
                content_hash,
                size_bytes,
            )
        if row is None:
            await self.get(tenant, name)
            raise AlreadyExists(f"The version {version!r} of {name!r} was given before.")
        return version_row(row)

    async def version(
        self, tenant: Tenant, name: str, version: str = LATEST, *, deleted: bool = False
    ) -> VersionRow:
        """A version, or the newest active one.

        Args:
            deleted: also a deleted one, when it is asked for by its own name.

        Raises:
            NotFound: there is none (VERSION_NOT_FOUND).
        """
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["get_version"], tenant.tenant_id, tenant.version, name, version, deleted
            )
        if row is None:
            raise no_version(name, version)
        return version_row(row)

    async def latest_versions(
        self, tenant: Tenant, names: Sequence[str] | None = None
    ) -> dict[str, VersionRow]:
        """The newest active version of each of the named models (None: of all) that has one."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["latest_versions"], tenant.tenant_id, tenant.version, names
            )
        return {row["model_name"]: version_row(row) for row in rows}

    async def versions(
        self,
        tenant: Tenant,
        name: str,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
        *,
        deleted: bool = False,
    ) -> list[VersionRow]:
        """Versions of a model, newest first.

        Args:
            before: created_at and version of the last one of the page before.
            deleted: with the deleted ones.
        """
        created_at, version = before or (None, None)
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["list_versions"],
                tenant.tenant_id,
                tenant.version,
                name,
                created_at,
                version,
                deleted,
                limit,
            )
        return [version_row(row) for row in rows]

    async def set_problem(self, tenant: Tenant, name: str, version: str, problem: str) -> None:
        """Notes what keeps a version from serving; "" when it was mended.

        Raises:
            NotFound: there is none (VERSION_NOT_FOUND).
        """
        async with self._database.connection(tenant.tenant_id) as connection:
            if not await connection.fetchval(
                _SQL["set_problem"], *guard(tenant), name, version, problem
            ):
                raise no_version(name, version)

    async def delete_version(
        self, tenant: Tenant, name: str, version: str, *, force: bool = False
    ) -> None:
        """Marks a version inactive; the row stays until `clean_up`.

        Args:
            force: also when it serves; what served before it, and still can, serves then.

        Raises:
            NotFound: there is none, or it is deleted already (VERSION_NOT_FOUND).
            FailedPrecondition: it serves (MODEL_SERVING).
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            serving = await lock_promotions(connection, tenant)
            if (serving.model_name, serving.version) == (name, version) and version:
                if not force:
                    raise _serves(serving, "without it what served before it would answer")
                await step_back(connection, tenant, serving, f"{name}@{version} was deleted")
            gone = await connection.fetchval(
                _SQL["retire_version"], tenant.tenant_id, name, version
            )
            if gone is None:
                raise no_version(name, version)

    async def clean_up(
        self,
        tenant: Tenant,
        name: str | None = None,
        keep: int | None = None,
        retention_days: int | None = None,
    ) -> list[VersionRow]:
        """Removes versions that are deleted, too many or too old; never the one that serves.

        Args:
            name: of the model; None: all, deleted ones included.
            keep: how many of the newest active versions of a model stay; None: as it says.
            retention_days: older ones go; None: as the model says.

        Returns:
            What was removed; the artefacts are left to `storage.artefacts.sweep`.
        """
        async with self._database.transaction(tenant.tenant_id) as connection:
            await lock_promotions(connection, tenant)
            rows = await connection.fetch(
                _SQL["clean_up"], tenant.tenant_id, name, keep, retention_days
            )
        removed = [version_row(row) for row in rows]
        return sorted(removed, key=lambda row: (row.model_name, row.created_at))

    async def storage_stats(self, tenant: Tenant) -> list[StorageStats]:
        """What the versions of each model take up, in byte order of the models."""
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(_SQL["storage_stats"], tenant.tenant_id, tenant.version)
        return [StorageStats(**row) for row in rows]

    async def hashes_in_use(self) -> set[str]:
        """Every artefact that a version of any tenant names, deleted versions included."""
        if self._maintenance is None or self._maintenance.role != MAINTENANCE_ROLE:
            raise ValueError("needs connections that see all tenants")
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["hashes_in_use"])
        return {row["content_hash"] for row in rows}


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _no_model(name: str) -> NotFound:
    return NotFound(
        f"There is no model {name!r}.", reason="MODEL_NOT_FOUND", metadata={"model": name}
    )


def _serves(serving: Serving, consequence: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{serving.model_name}@{serving.version} answers Recommend: {consequence}.",
        reason="MODEL_SERVING",
    )
