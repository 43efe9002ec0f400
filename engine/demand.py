"""How often entities will be asked for: counted steps of the log, continued by a forecast."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from engine.catalogue import not_found
from engine.forecasts import NEEDED_SEASONS, Forecast, forecast
from engine.identifiers import check_id
from engine.tenants import TenantDirectory
from storage.demand import STEP_LENGTHS, DemandStore, Step, StepCounts, Subject
from storage.exceptions import FailedPrecondition, InvalidArgument
from storage.tenants import Tenant

SEASONS: dict[Step, int] = {"hour": 24, "day": 7}
"""Steps a season: a day of hours, a week of days."""

MAX_HORIZON = 366
MAX_HISTORY_STEPS = 5000
DEFAULT_HISTORY_SEASONS = 26
DEFAULT_LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class DemandQuery:
    """What is to be forecast; 0 and () stand for the defaults of the proto's fields."""

    subject: Subject
    step: Step = "day"
    horizon: int = 0
    interaction_types: Sequence[str] = ()
    level: float = 0.0
    history_steps: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """A counted series and what follows it.

    Attributes:
        start: when the first counted step begins.
        step: the length of each.
        history: int64, shape (steps,): the counts from the first interaction on.
        forecast: of the steps after these.
    """

    start: datetime
    step: timedelta
    history: NDArray[np.int64]
    forecast: Forecast


class DemandForecaster:
    """Forecasts from a tenant's log.

    Fits run in one thread, one after another: they hold the interpreter for most of their time, and
    what silences their warnings is the whole process's.
    """

    def __init__(self, tenants: TenantDirectory, store: DemandStore) -> None:
        self._tenants = tenants
        self._store = store
        self._fits = ThreadPoolExecutor(1, thread_name_prefix="demand")

    async def forecast(self, tenant: Tenant, query: DemandQuery) -> Demand:
        """Counts the interactions of a subject and forecasts them.

        The series begins with the subject's first interaction in the window. It ends with the last
        full step or, where the tenant's newest interaction is older, with that one's step.

        Raises:
            InvalidArgument: a field is outside its limits, or the tenant has no interaction type
                of a name (UNKNOWN_INTERACTION_TYPE).
            NotFound: ENTITY_NOT_FOUND.
            FailedPrecondition: the series is shorter than two seasons (NOT_ENOUGH_DATA).
        """
        season = SEASONS[query.step]
        _check_subject(query.subject)
        horizon = _check_count(query.horizon, "horizon", 1, MAX_HORIZON) or season
        steps = (
            _check_count(
                query.history_steps, "history_steps", NEEDED_SEASONS * season, MAX_HISTORY_STEPS
            )
            or DEFAULT_HISTORY_SEASONS * season
        )
        level = query.level or DEFAULT_LEVEL
        if not 0.5 < level < 1:  # NaN, too
            raise InvalidArgument.field("level", "must be above 0.5 and below 1")

        async def count(tenant: Tenant) -> StepCounts | None:
            entity_type, entity_id = query.subject.entity_type, query.subject.entity_id
            if entity_type is not None and entity_id is not None:
                key = (entity_type, entity_id)
                if not await self._store.has_entity(tenant, key):
                    raise not_found(key)
            types = _counted_types(tenant, query.interaction_types)
            return await self._store.count_steps(tenant, query.subject, types, query.step, steps)

        series = _since_first(await self._tenants.run(tenant, count), query.step, season)
        forecasted = await asyncio.get_running_loop().run_in_executor(
            self._fits, forecast, series.counts.astype(np.float64), season, horizon, level
        )
        return Demand(series.start, STEP_LENGTHS[query.step], series.counts, forecasted)


def _check_subject(subject: Subject) -> None:
    if subject.attribute is not None:
        check_id(subject.attribute[0], "category.key")
        check_id(subject.attribute[1], "category.value")
    elif subject.entity_id is not None:
        check_id(subject.entity_type or "", "entity.entity_type")
        check_id(subject.entity_id, "entity.entity_id")
    else:
        check_id(subject.entity_type or "", "entity_type")


def _check_count(value: int, field: str, least: int, most: int) -> int:
    if value and not least <= value <= most:
        raise InvalidArgument.field(field, f"must be {least} to {most}")
    return value


def _counted_types(tenant: Tenant, names: Sequence[str]) -> list[str]:
    known = tenant.interaction_types
    if not names:
        return sorted(kind.interaction_type for kind in known.values() if kind.weight > 0)
    for index, name in enumerate(names):
        if name not in known:
            raise InvalidArgument.field(
                f"interaction_types[{index}]",
                f"the tenant has no type {name!r}; it has: {', '.join(sorted(known)) or 'none'}",
                reason="UNKNOWN_INTERACTION_TYPE",
            )
    return sorted(set(names))


def _since_first(counted: StepCounts | None, step: Step, season: int) -> StepCounts:
    """The series from its first interaction on; NOT_ENOUGH_DATA where it is too short."""
    needed = NEEDED_SEASONS * season
    present = 0
    if counted is not None and counted.counts.any():
        present = len(counted.counts) - int(np.argmax(counted.counts > 0))
    if counted is None or present < needed:
        raise FailedPrecondition(
            f"There are {present} full {step}s since the first of these interactions in the"
            f" history that was asked for; {needed} are needed, two seasons of {season}.",
            reason="NOT_ENOUGH_DATA",
            metadata={"steps": str(present), "needed": str(needed)},
        )
    skipped = len(counted.counts) - present
    return StepCounts(
        counted.start + skipped * STEP_LENGTHS[step], np.ascontiguousarray(counted.counts[skipped:])
    )
