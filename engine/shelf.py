"""The models that this worker answers with: mapped when first wanted, swapped in whole."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from engine.models.artefact import open_artefact
from engine.models.forms.base import ServingModel
from engine.single_flight import SingleFlight
from storage.artefacts import ArtefactStore
from storage.exceptions import FailedPrecondition, PenchantError
from storage.models import ModelStore, Serving, VersionRow
from storage.tenants import Tenant

FIRST_WAIT_SECS = 2.0
"""How long a call waits for the first model of a tenant before it answers without one."""

_RETRY_SECS = 1.0  # after a load that failed for want of PostgreSQL

LOADS = Counter(
    "penchant_model_loads_total", "Model artefacts mapped by workers, by outcome.", ["outcome"]
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        revision: of the promotion that brought it; 0 for one that a call named.
        label: name@version.
    """

    revision: int
    label: str
    model: ServingModel


@dataclass(slots=True)
class _Place:
    """What stands for a tenant: the promotion last looked at, and its model if it has one."""

    revision: int
    loaded: LoadedModel | None


class ModelShelf:
    """Models by tenant, least recently used ones put away.

    The pages of a mapped artefact belong to the page cache, which all workers share; a model that
    is put away lives on until the last answer that uses it is given.

    Args:
        limit: how many models stay mapped.
    """

    def __init__(self, models: ModelStore, artefacts: ArtefactStore, *, limit: int = 256) -> None:
        self._models = models
        self._artefacts = artefacts
        self._limit = limit
        self._serving: OrderedDict[int, _Place] = OrderedDict()
        self._named: OrderedDict[tuple[int, str, str], LoadedModel] = OrderedDict()
        self._opening = SingleFlight[LoadedModel]()
        self._under_way: dict[int, asyncio.Task[LoadedModel | None]] = {}
        self._failed_at: dict[int, float] = {}

    async def serving(self, tenant: Tenant, revision: int) -> LoadedModel | None:
        """The model that answers for a tenant; None: there is none (yet).

        A new version is loaded beside the old one, which answers meanwhile.

        Args:
            revision: of the tenant's newest promotion, as the caller's snapshot has it; 0: none.
        """
        place = self._serving.get(tenant.tenant_no)
        if place is not None and place.revision >= revision:
            self._serving.move_to_end(tenant.tenant_no)
            return place.loaded
        if not revision:
            return None
        if time.monotonic() - self._failed_at.get(tenant.tenant_no, -_RETRY_SECS) < _RETRY_SECS:
            return place.loaded if place else None
        task = self._under_way.get(tenant.tenant_no)
        if task is None:
            task = asyncio.create_task(self._load_serving(tenant, revision))
            self._under_way[tenant.tenant_no] = task
            task.add_done_callback(lambda _: self._under_way.pop(tenant.tenant_no, None))
        if place is not None:
            return place.loaded
        done, _ = await asyncio.wait([task], timeout=FIRST_WAIT_SECS)
        return task.result() if done else None

    def expects(self, tenant: Tenant) -> bool:
        """Whether a model answered for the tenant when it was last asked."""
        place = self._serving.get(tenant.tenant_no)
        return place is not None and place.loaded is not None

    def is_current(self, tenant: Tenant, revision: int) -> bool:
        """Whether what answers is what a promotion, or a newer one, says; 0: there was none."""
        place = self._serving.get(tenant.tenant_no)
        return not revision or (place is not None and place.revision >= revision)

    async def named(self, tenant: Tenant, model_name: str, version: str) -> LoadedModel:
        """One version by name; "latest" is the newest.

        Raises:
            NotFound: VERSION_NOT_FOUND, MODEL_NOT_FOUND.
            FailedPrecondition: ARTEFACT_CORRUPT.
        """
        row = await self._models.version(tenant, model_name, version)
        key = (tenant.tenant_no, model_name, row.version)
        found = self._named.get(key)
        if found is not None:
            self._named.move_to_end(key)
            return found
        label = f"{row.model_name}@{row.version}"
        return await self._opening.do(
            f"{tenant.tenant_no} {label}", lambda: self._open_named(key, label, row)
        )

    async def _open_named(
        self, key: tuple[int, str, str], label: str, row: VersionRow
    ) -> LoadedModel:
        path = self._artefacts.path(row.content_hash)
        opened = await asyncio.to_thread(open_artefact, path, row.content_hash)
        loaded = LoadedModel(0, label, opened.model)
        self._named[key] = loaded
        self._shrink()
        return loaded

    async def _load_serving(self, tenant: Tenant, revision: int) -> LoadedModel | None:
        try:
            serving = await self._models.serving(tenant)
            loaded = None
            while serving is not None and loaded is None:
                serving, loaded = await self._open(tenant, serving)
        except PenchantError as error:
            # The next call tries again; this one is answered by what stands there already.
            self._failed_at[tenant.tenant_no] = time.monotonic()
            _log.warning("model not loaded", tenant_id=tenant.tenant_id, error=error.message)
            place = self._serving.get(tenant.tenant_no)
            return place.loaded if place else None
        self._failed_at.pop(tenant.tenant_no, None)
        at = max(revision, serving.revision if serving else 0)
        self._serving[tenant.tenant_no] = _Place(at, loaded)
        self._serving.move_to_end(tenant.tenant_no)
        self._shrink()
        if loaded is not None:
            _log.info("model serves", tenant_id=tenant.tenant_id, model=loaded.label)
        return loaded

    async def _open(
        self, tenant: Tenant, serving: Serving
    ) -> tuple[Serving | None, LoadedModel | None]:
        label = f"{serving.model_name}@{serving.version}"
        path = self._artefacts.path(serving.content_hash)
        try:
            opened = await asyncio.to_thread(open_artefact, path, serving.content_hash)
        except FailedPrecondition as error:
            LOADS.labels("corrupt").inc()
            _log.error(
                "model cannot be served, the one before it is",
                tenant_id=tenant.tenant_id,
                model=label,
                problem=error.message,
            )
            return await self._models.fall_back(tenant, serving, error.message), None
        LOADS.labels("ok").inc()
        return serving, LoadedModel(serving.revision, label, opened.model)

    def _shrink(self) -> None:
        while len(self._serving) > self._limit:
            self._serving.popitem(last=False)
        while len(self._named) > self._limit:
            self._named.popitem(last=False)
