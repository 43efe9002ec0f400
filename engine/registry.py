"""The models of a tenant: named, trained, compared, promoted, rolled back and cleaned up."""

import asyncio
import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from engine.models.artefact import open_artefact
from engine.registry_views import (
    DEFAULT_KEEP,
    DEFAULT_RETENTION_DAYS,
    PROMOTIONS,
    CleanedUp,
    Compared,
    ModelDetails,
    ModelDraft,
    ModelView,
    Promoted,
    VersionView,
    check_keep,
    check_label,
    check_name,
    check_promotion,
    check_retention,
    check_version,
    is_serving,
    label_of,
)
from engine.schedules import check_schedule, next_run
from engine.tenants import TenantDirectory
from engine.training.checks import Described, check_algorithm, check_hyperparameters, described
from engine.training.promotion import not_worse
from engine.trainings import Trainings
from storage.artefacts import ArtefactStore, sweep
from storage.exceptions import FailedPrecondition, InvalidArgument, NotFound
from storage.models import ModelChanges, ModelRow, ModelStore, Serving, VersionRow
from storage.operations import Operation
from storage.tenants import Tenant

DEFAULT_METRIC = "ndcg@20"
MAX_COMPARED = 20

_JUST_KEPT_SECS = 60.0  # a training may have kept the same content again, its row still to come
_LESS_IS_BETTER = ("popularity_bias@",)
_UPDATABLE = (
    "algorithm", "hyperparameters", "schedule", "promotion", "keep_versions", "retention_days",
)  # fmt: skip


class ModelRegistry:
    """Models and their versions, for one tenant a call.

    Every method that names a model raises InvalidArgument for a malformed name and NotFound
    (MODEL_NOT_FOUND, VERSION_NOT_FOUND) for what there is not.
    """

    def __init__(
        self,
        tenants: TenantDirectory,
        models: ModelStore,
        artefacts: ArtefactStore,
        trainings: Trainings,
    ) -> None:
        self._run = tenants.run
        self._models = models
        self._artefacts = artefacts
        self._trainings = trainings

    async def algorithms(self) -> list[Described]:
        """What a model can be made with, by name."""
        return await asyncio.to_thread(described)

    async def create(self, tenant: Tenant, draft: ModelDraft) -> ModelView:
        """Names a model.

        Raises:
            InvalidArgument: a field is wrong. AlreadyExists: MODEL_EXISTS.
        """
        name = check_name(draft.name, "model.name")
        algorithm, hyperparameters = draft.algorithm or "", dict(draft.hyperparameters or {})
        # In a thread: the first look at an algorithm imports the libraries that it trains with.
        await asyncio.to_thread(check_hyperparameters, algorithm, hyperparameters)
        schedule = check_schedule(draft.schedule or "")
        promotion = check_promotion(draft.promotion or PROMOTIONS[0])
        keep = check_keep(DEFAULT_KEEP if draft.keep_versions is None else draft.keep_versions)
        retention = check_retention(
            DEFAULT_RETENTION_DAYS if draft.retention_days is None else draft.retention_days
        )
        row = await self._run(
            tenant,
            lambda t: self._models.create(
                t,
                name,
                algorithm=algorithm,
                hyperparameters=hyperparameters,
                schedule=schedule,
                next_run_at=_next(schedule),
                promotion=promotion,
                keep_versions=keep,
                retention_days=retention,
            ),
        )
        return ModelView(row, "", "")

    async def get(self, tenant: Tenant, name: str) -> ModelDetails:
        """A model with its serving and its newest version."""
        check_name(name)
        row = await self._run(tenant, lambda t: self._models.get(t, name))
        latest = (await self._latest(tenant, [name])).get(name)
        serving = await self._serving(tenant)
        serves = None
        if serving is not None and serving.model_name == name:
            serves = await self._run(
                tenant, lambda t: self._models.version(t, name, serving.version, deleted=True)
            )
        return ModelDetails(
            ModelView(row, latest.version if latest else "", serves.version if serves else ""),
            VersionView.of(serves, serving) if serves else None,
            VersionView.of(latest, serving) if latest else None,
        )

    async def page(
        self, tenant: Tenant, after: str, limit: int, *, deleted: bool
    ) -> list[ModelView]:
        """Models after a name, in byte order; with the deleted ones if asked."""
        rows = await self._run(
            tenant, lambda t: self._models.page(t, after, limit, deleted=deleted)
        )
        latest = await self._latest(tenant, [row.model_name for row in rows])
        serving = await self._serving(tenant)
        return [
            ModelView(
                row,
                latest[row.model_name].version if row.model_name in latest else "",
                serving.version if serving and serving.model_name == row.model_name else "",
            )
            for row in rows
        ]

    async def update(
        self, tenant: Tenant, draft: ModelDraft, paths: Collection[str] | None
    ) -> ModelView:
        """Changes the named fields; None names those that are set, "*" all (AIP-134).

        Raises:
            InvalidArgument: a field is wrong, or hyperparameters that stay do not fit a new
                algorithm.
        """
        name = check_name(draft.name, "model.name")
        present = await self._run(tenant, lambda t: self._models.get(t, name))
        if paths is None:
            paths = [field for field in _UPDATABLE if getattr(draft, field) is not None]
        elif "*" in paths:
            paths = _UPDATABLE
        changes = await asyncio.to_thread(_changes, present, draft, paths)
        if changes:
            await self._run(tenant, lambda t: self._models.update(t, name, **changes))
        return (await self.get(tenant, name)).model

    async def delete(self, tenant: Tenant, name: str, *, force: bool) -> None:
        """Retires a model and its versions, and cancels what is under way for it.

        Raises:
            FailedPrecondition: one of its versions serves and it is not forced (MODEL_SERVING).
        """
        check_name(name)
        await self._run(tenant, lambda t: self._models.delete(t, name, force=force))
        await self._trainings.cancel_of(tenant, name)

    async def versions(
        self,
        tenant: Tenant,
        name: str,
        before: tuple[datetime, str] | None,
        limit: int,
        *,
        deleted: bool,
    ) -> list[VersionView]:
        """Versions of a model before one (its time and name), newest first.

        Args:
            deleted: with the deleted ones; then the model may be deleted, too.
        """
        check_name(name)
        if not deleted:
            await self._run(tenant, lambda t: self._models.get(t, name))
        rows = await self._run(
            tenant, lambda t: self._models.versions(t, name, before, limit, deleted=deleted)
        )
        serving = await self._serving(tenant)
        return [VersionView.of(row, serving) for row in rows]

    async def version(
        self, tenant: Tenant, name: str, version: str, *, deleted: bool = False
    ) -> VersionView:
        """A version by name or "latest"; with `deleted` also one that was deleted."""
        row = await self._version(tenant, name, version, deleted=deleted)
        return VersionView.of(row, await self._serving(tenant))

    async def promote(self, tenant: Tenant, name: str, version: str, *, force: bool) -> Promoted:
        """Makes a version serve.

        Args:
            version: "" for the newest.
            force: although validation shows it worse.

        Raises:
            FailedPrecondition: MODEL_WORSE than what serves beyond the interval; ARTEFACT_CORRUPT.
        """
        check_name(name)
        await self._run(tenant, lambda t: self._models.get(t, name))
        row = await self._version(tenant, name, version)
        serving = await self._serving(tenant)
        if serving is not None and not force and not is_serving(row, serving):
            await self._refuse_worse(tenant, row, serving)
        await self._verify(tenant, row)
        now = await self._run(
            tenant, lambda t: self._models.promote(t, name, row.version, "promoted by a caller")
        )
        return Promoted(VersionView.of(row, now), label_of(serving) if serving else "")

    async def roll_back(self, tenant: Tenant, name: str) -> Promoted:
        """Goes back from the model's serving version to what served before and still can.

        Raises:
            FailedPrecondition: no version of the model serves; NO_PREVIOUS_VERSION.
        """
        check_name(name)
        await self._run(tenant, lambda t: self._models.get(t, name))
        before = await self._serving(tenant)
        now = await self._run(tenant, lambda t: self._models.roll_back(t, name))
        row = await self._run(
            tenant, lambda t: self._models.version(t, now.model_name, now.version, deleted=True)
        )
        return Promoted(VersionView.of(row, now), label_of(before) if before else "")

    async def delete_version(self, tenant: Tenant, name: str, version: str, *, force: bool) -> None:
        """Marks a version inactive; when it serves and that is forced, the one before it does.

        Raises:
            FailedPrecondition: it serves (MODEL_SERVING).
        """
        if not version:
            raise InvalidArgument.field("version", "must not be empty")
        row = await self._version(tenant, name, version)
        await self._run(
            tenant, lambda t: self._models.delete_version(t, name, row.version, force=force)
        )

    async def clean_up(
        self, tenant: Tenant, name: str, keep: int | None, retention_days: int | None
    ) -> CleanedUp:
        """Removes old versions of a model ("": of all), then artefacts that no version names."""
        if name:
            check_name(name)
        if keep is not None:
            check_keep(keep, "keep_versions")
        if retention_days is not None:
            check_retention(retention_days, "retention_days")
        rows = await self._run(
            tenant, lambda t: self._models.clean_up(t, name or None, keep, retention_days)
        )
        hashes = {row.content_hash for row in rows}
        in_use = self._models.hashes_in_use
        own = await sweep(self._artefacts, in_use, among=hashes, young_secs=_JUST_KEPT_SECS)
        other = await sweep(self._artefacts, in_use)
        return CleanedUp(
            removed=[label_of(row) for row in rows],
            artefacts_removed=own.artefacts + other.artefacts,
            bytes_freed=own.size_bytes + other.size_bytes,
        )

    async def compare(
        self, tenant: Tenant, labels: Sequence[str], metric: str
    ) -> tuple[list[Compared], str]:
        """Versions by a kept metric, best first, those without it last; and the metric.

        Args:
            labels: name@version each; the newest of every model when empty.
            metric: "" for ndcg@20.
        """
        metric = metric or DEFAULT_METRIC
        if len(labels) > MAX_COMPARED:
            raise InvalidArgument.field("versions", f"must be at most {MAX_COMPARED}")
        rows: dict[str, VersionRow] = {}
        for name, version in [check_label(label, "versions") for label in labels]:
            row = await self._version(tenant, name, version)
            rows[label_of(row)] = row
        if not labels:
            rows = await self._latest(tenant, None)
        serving = await self._serving(tenant)
        compared = [_compared(VersionView.of(row, serving), metric) for row in rows.values()]
        sign = 1 if metric.startswith(_LESS_IS_BETTER) else -1
        compared.sort(key=lambda one: (one.value is None, sign * (one.value or 0.0)))
        return compared, metric

    async def made_by(self, tenant: Tenant, operation: Operation) -> VersionView | None:
        """The version that a training made; None when it made none, or it is cleaned up."""
        version = (operation.response or {}).get("version")
        if not version:
            return None
        try:
            return await self.version(tenant, operation.target, str(version), deleted=True)
        except NotFound:
            return None

    async def _version(
        self, tenant: Tenant, name: str, version: str, *, deleted: bool = False
    ) -> VersionRow:
        check_name(name)
        wanted = check_version(name, version)
        return await self._run(
            tenant, lambda t: self._models.version(t, name, wanted, deleted=deleted)
        )

    async def _serving(self, tenant: Tenant) -> Serving | None:
        return await self._run(tenant, self._models.serving)

    async def _latest(self, tenant: Tenant, names: Sequence[str] | None) -> dict[str, VersionRow]:
        return await self._run(tenant, lambda t: self._models.latest_versions(t, names))

    async def _refuse_worse(self, tenant: Tenant, row: VersionRow, serving: Serving) -> None:
        """Raises where validation shows a version worse than what serves."""
        try:
            present = await self._version(tenant, serving.model_name, serving.version, deleted=True)
        except NotFound:
            return
        fine, note = not_worse(_metrics(row), _metrics(present))
        if not fine:
            raise FailedPrecondition(
                f"{label_of(row)}: {note} It can be forced.", reason="MODEL_WORSE"
            )

    async def _verify(self, tenant: Tenant, row: VersionRow) -> None:
        """Raises where a version's artefact is not what it was, and notes that with the version."""
        if row.problem:
            return  # the store refuses it, and says why
        path = self._artefacts.path(row.content_hash)
        try:
            await asyncio.to_thread(open_artefact, path, row.content_hash)
        except FailedPrecondition as error:
            problem = error.message
            await self._run(
                tenant,
                lambda t: self._models.set_problem(t, row.model_name, row.version, problem),
            )
            raise


def _next(schedule: str) -> datetime | None:
    return next_run(schedule, datetime.now(UTC))


def _changes(present: ModelRow, draft: ModelDraft, paths: Collection[str]) -> ModelChanges:
    """The columns to change, checked."""
    changes: ModelChanges = {}
    for path in paths:
        match path:
            case "algorithm":
                changes["algorithm"] = check_algorithm(draft.algorithm or "").name
            case "hyperparameters":
                changes["hyperparameters"] = dict(draft.hyperparameters or {})
            case "schedule":
                changes["schedule"] = check_schedule(draft.schedule or "")
                changes["next_run_at"] = _next(changes["schedule"])
            case "promotion":
                changes["promotion"] = check_promotion(draft.promotion or PROMOTIONS[0])
            case "keep_versions":
                changes["keep_versions"] = check_keep(draft.keep_versions or DEFAULT_KEEP)
            case "retention_days":
                days = draft.retention_days or DEFAULT_RETENTION_DAYS
                changes["retention_days"] = check_retention(days)
            case _:
                raise InvalidArgument.field(
                    "update_mask", f"{path[:100]!r} cannot be changed; {', '.join(_UPDATABLE)} can"
                )
    if not changes.keys().isdisjoint({"algorithm", "hyperparameters"}):
        check_hyperparameters(
            changes.get("algorithm", present.algorithm),
            changes.get("hyperparameters", present.hyperparameters),
        )
    return changes


def _compared(view: VersionView, metric: str) -> Compared:
    found = _metrics(view.row).get
    return Compared(view, found(metric), found(f"{metric}.low"), found(f"{metric}.high"))


def _metrics(row: VersionRow) -> dict[str, float]:
    """The figures kept with a version, as far as they are numbers."""
    return {
        name: float(value)
        for name, value in (row.metadata.get("metrics") or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
