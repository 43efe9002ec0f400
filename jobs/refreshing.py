"""An incremental training: the newest version, with those rows made anew that have changed."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import structlog
from numpy.typing import NDArray

from engine.models import BY_NAME
from engine.models.artefact import open_artefact
from engine.models.base import Interactions, Progress
from engine.models.forms.neighbours import NeighbourMatrix
from engine.training.checks import check_hyperparameters
from engine.training.fitting import Trained
from storage.artefacts import ArtefactStore
from storage.exceptions import FailedPrecondition, NotFound
from storage.models import LATEST, ModelRow, ModelStore, VersionRow
from storage.tenants import Tenant
from storage.training_data import TrainingDataStore

MOST_TOUCHED = 0.5
"""Of all rows; a whole fit is hardly dearer then, and exact."""

_OVERLAP = timedelta(minutes=1)
"""Covers transactions that were open when the version's interactions were read."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Base:
    """What an incremental training goes on from.

    Attributes:
        touched: int64, numbers of the entities whose rows are to be made anew.
    """

    row: VersionRow
    model: NeighbourMatrix
    touched: NDArray[np.int64]


async def base_of(
    tenant: Tenant,
    model: ModelRow,
    models: ModelStore,
    artefacts: ArtefactStore,
    training_data: TrainingDataStore,
) -> Base | None:
    """The newest version of a model, if an incremental training can go on from it."""
    if model.algorithm not in BY_NAME or BY_NAME[model.algorithm].refresh is None:
        return None
    config = check_hyperparameters(model.algorithm, model.hyperparameters)
    try:
        row = await models.version(tenant, model.model_name, LATEST)
    except NotFound:
        return None
    as_of = row.metadata.get("data_as_of")
    same = (row.metadata.get("algorithm"), row.metadata.get("hyperparameters")) == (
        model.algorithm,
        config.model_dump(mode="json"),
    )
    if as_of is None or row.problem or not same:
        return None
    path = artefacts.path(row.content_hash)
    try:
        opened = await asyncio.to_thread(open_artefact, path, row.content_hash)
    except FailedPrecondition as error:
        _log.warning("no incremental training", version=row.version, problem=error.message)
        return None
    if not isinstance(opened.model, NeighbourMatrix):
        return None
    since = datetime.fromisoformat(as_of) - _OVERLAP
    return Base(row, opened.model, await training_data.touched(tenant, since))


def refreshed(
    base: Base, model: ModelRow, data: Interactions, progress: Progress
) -> Trained | None:
    """The base with its touched rows made anew; None where a whole fit is the better way."""
    touched = np.isin(data.entity_nos, base.touched)
    touched |= ~np.isin(data.entity_nos, base.model.entity_nos)
    places = np.flatnonzero(touched).astype(np.int32)
    if len(places) > MOST_TOUCHED * data.n_items:
        return None
    config = check_hyperparameters(model.algorithm, model.hyperparameters)
    refresh = BY_NAME[model.algorithm].refresh
    assert refresh is not None
    merged = base.model
    if len(places):
        rows = refresh(data, config, places, progress)
        merged = merged.with_rows(data.entity_nos, places, rows)
    report = {"refreshed_from": base.row.version, "rows": len(places), "of": data.n_items}
    return Trained(merged, model.algorithm, config.model_dump(mode="json"), {}, report)
