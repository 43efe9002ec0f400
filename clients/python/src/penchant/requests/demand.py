"""Requests of DemandService."""

from collections.abc import Iterable

from penchant.requests.parts import Ref, entity_ref, one_of
from penchant.v1 import demand_pb2 as demand


def forecast_demand(
    *,
    entity: Ref | None = None,
    category: tuple[str, str] | None = None,
    entity_type: str | None = None,
    hourly: bool = False,
    horizon: int = 0,
    interaction_types: Iterable[str] = (),
    level: float = 0.0,
    history_steps: int = 0,
) -> demand.ForecastDemandRequest:
    """The number of interactions in the days or hours to come, with intervals.

    Args:
        entity: one entity; or `category`; or `entity_type`.
        category: all entities with this (key, value) among their attributes.
        entity_type: all entities of the type.
        hourly: steps are hours with a season of a day; otherwise days with a season of a week.
        horizon: steps to forecast, up to 366; one season when 0.
        interaction_types: those that count; those of positive weight when empty.
        level: the coverage of the intervals, above 0.5 and below 1; 0.9 when 0.
        history_steps: how far back to look, up to 5,000; 26 seasons when 0.
    """
    subject = one_of(
        entity=None if entity is None else entity_ref(entity),
        category=None
        if category is None
        else demand.AttributeValue(key=category[0], value=category[1]),
        entity_type=entity_type,
    )
    return demand.ForecastDemandRequest(
        **subject,
        granularity=demand.GRANULARITY_HOURLY if hourly else demand.GRANULARITY_DAILY,
        horizon=horizon,
        interaction_types=interaction_types,
        level=level,
        history_steps=history_steps,
    )
