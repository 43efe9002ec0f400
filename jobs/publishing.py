"""From a fitted model to a version that can serve: checked, kept, described and promoted."""

import resource
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from engine.models.artefact import open_artefact, write_artefact
from engine.models.base import SECONDS_A_DAY, Interactions
from engine.models.forms.base import History, ServingModel
from engine.registry_transfer import tenant_facts
from engine.training.fitting import Trained
from engine.training.promotion import not_worse
from storage.artefacts import ArtefactStore, content_hash
from storage.exceptions import FailedPrecondition
from storage.models import ModelRow, ModelStore, Serving, VersionRow
from storage.tenants import Tenant
from storage.training_metrics import TrainingMetricsStore

_TRIED_USERS = 5
_TRIED_K = 10


class UnfitModel(FailedPrecondition):
    """The model that was fitted cannot be served."""

    reason = "TRAINING_FAILED"


@dataclass(frozen=True, slots=True)
class Kept:
    """An artefact in the store."""

    manifest: dict[str, Any]
    content_hash: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version was promoted, and why or why not."""

    promoted: bool
    note: str


def keep(
    trained: Trained,
    data: Interactions,
    statistics: dict[str, Any],
    artefacts: ArtefactStore,
    tenant: Tenant,
) -> Kept:
    """Checks a model, writes it, opens it as a worker will and keeps it under its hash.

    Args:
        data: what it was fitted on; some users' histories are asked about.

    Raises:
        UnfitModel: it is empty, holds values that are not finite or gives no usable answer.
    """
    check_finite(trained.model)
    facts = {
        **tenant_facts(tenant),
        "algorithm": trained.algorithm,
        "hyperparameters": trained.hyperparameters,
        "statistics": statistics,
    }
    path = artefacts.temporary()
    try:
        write_artefact(trained.model, path, facts)
        opened = open_artefact(path)
        check_answers(opened.model, data)
        digest = content_hash(path)
        return Kept(dict(opened.manifest), digest, artefacts.keep(path, digest))
    finally:
        Path(path).unlink(missing_ok=True)


def check_finite(model: ServingModel) -> None:
    """UnfitModel when the model knows no entity or holds a value that is not finite."""
    if not len(model.entity_nos):
        raise UnfitModel("The fitted model knows no entity.")
    for name, array in model.arrays().items():
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            raise UnfitModel(f"The fitted model holds values that are not finite ({name}).")


def check_answers(model: ServingModel, data: Interactions) -> None:
    """Asks about some users and one without a history; UnfitModel for answers out of order."""
    step = max(data.n_users // _TRIED_USERS, 1)
    histories = [_history(data, user) for user in range(0, data.n_users, step)]
    for history in [*histories[:_TRIED_USERS], _nothing()]:
        scored = model.top(history, _TRIED_K, history.items)
        items, scores = scored.items, scored.scores
        if not (len(items) == len(scores) <= _TRIED_K):
            raise UnfitModel("The fitted model gives answers of another length.")
        if not np.isfinite(scores).all() or np.any(np.diff(scores) > 0):
            raise UnfitModel("The fitted model gives scores that are no order.")
        if len(items) and not (items.min() >= 0 and items.max() < len(model.entity_nos)):
            raise UnfitModel("The fitted model recommends entities that it does not know.")
        if np.isin(items, history.items).any():
            raise UnfitModel("The fitted model recommends what it was told to leave out.")


def _nothing() -> History:
    empty = np.empty(0, np.float32)
    return History(np.empty(0, np.int32), empty, empty)


def _history(data: Interactions, user: int) -> History:
    """A user's history as Recommend hands it over, of entities that the data knows."""
    rows = np.flatnonzero(data.users == user)
    items, places = np.unique(data.items[rows], return_inverse=True)
    newest = np.zeros(len(items), np.int64)
    np.maximum.at(newest, places, data.times[rows])
    ages = (data.times.max() - newest) / SECONDS_A_DAY
    order = np.argsort(ages, kind="stable")
    weights = np.bincount(places, data.weights[rows], len(items))
    return History(
        items[order].astype(np.int32),
        weights[order].astype(np.float32),
        ages[order].astype(np.float32),
    )


class Publisher:
    """Adds versions of trained models and promotes them as their models say."""

    def __init__(self, models: ModelStore, metrics: TrainingMetricsStore) -> None:
        self._models = models
        self._metrics = metrics

    async def _metrics_of(self, tenant: Tenant, serving: Serving) -> dict[str, float]:
        """The figures of the version that serves; empty where there are none."""
        version = await self._models.version(tenant, serving.model_name, serving.version)
        found = version.metadata.get("metrics")
        return dict(found) if isinstance(found, dict) else {}

    async def add(
        self,
        tenant: Tenant,
        model: ModelRow,
        trained: Trained,
        kept: Kept,
        statistics: dict[str, Any],
        began: float,
        as_of: datetime | None,
    ) -> VersionRow:
        """Adds the version.

        Args:
            began: monotonic time of the training's begin.
            as_of: all that was received before it was trained on.
        """
        metrics = {k: float(v) for k, v in trained.metrics.items() if np.isfinite(v)}
        metadata: dict[str, Any] = {
            "algorithm": trained.algorithm,
            "hyperparameters": trained.hyperparameters,
            "statistics": statistics,
            "duration_secs": time.monotonic() - began,
            "peak_memory_bytes": peak_memory_bytes(),
            "metrics": metrics,
        }
        if as_of is not None:
            metadata["data_as_of"] = as_of.isoformat()
        if trained.report is not None:
            metadata["report"] = trained.report
        return await self._models.add_version(
            tenant,
            model.model_name,
            manifest=kept.manifest,
            metadata=metadata,
            content_hash=kept.content_hash,
            size_bytes=kept.size_bytes,
        )

    async def save_metrics(self, tenant: Tenant, row: VersionRow) -> None:
        """Keeps a version's figures where those of all versions are compared."""
        metrics = row.metadata["metrics"]
        if metrics:
            await self._metrics.save_training_metrics(tenant, row.model_name, row.version, metrics)

    async def promote(self, tenant: Tenant, model: ModelRow, row: VersionRow) -> Verdict:
        """Promotes a new version if its model's rule says so."""
        if model.promotion == "never":
            return Verdict(False, "The model promotes by PromoteVersion only.")
        if model.promotion == "always":
            better, note = True, "The model promotes every new version."
        elif (serving := await self._models.serving(tenant)) is None:
            better, note = True, "No version served before."
        else:
            present = await self._metrics_of(tenant, serving)
            better, note = not_worse(row.metadata["metrics"], present)
        if not better:
            return Verdict(False, note)
        try:
            await self._models.promote(tenant, row.model_name, row.version, "trained")
        except FailedPrecondition as error:
            return Verdict(False, error.message)
        return Verdict(True, note)


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
