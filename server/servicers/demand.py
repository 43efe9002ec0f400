"""DemandService."""

from typing import Any

import grpc
from penchant.v1 import demand_pb2 as pb
from penchant.v1.demand_pb2_grpc import DemandServiceServicer

from engine.demand import Demand, DemandForecaster, DemandQuery
from server.call import tenant_of_call
from server.convert import fill_timestamp
from storage.demand import Step, Subject
from storage.exceptions import InvalidArgument

_STEPS: dict[int, Step] = {
    pb.GRANULARITY_UNSPECIFIED: "day",
    pb.GRANULARITY_HOURLY: "hour",
    pb.GRANULARITY_DAILY: "day",
}
_Context = grpc.aio.ServicerContext[Any, Any]


def parse_query(request: pb.ForecastDemandRequest) -> DemandQuery:
    """What a request asks to forecast."""
    if request.granularity not in _STEPS:
        raise InvalidArgument.field("granularity", "must be HOURLY or DAILY")
    return DemandQuery(
        subject=_parse_subject(request),
        step=_STEPS[request.granularity],
        horizon=request.horizon,
        interaction_types=tuple(request.interaction_types),
        level=request.level,
        history_steps=request.history_steps,
    )


def _parse_subject(request: pb.ForecastDemandRequest) -> Subject:
    match request.WhichOneof("subject"):
        case "entity":
            return Subject(request.entity.entity_type, request.entity.entity_id)
        case "category":
            return Subject(attribute=(request.category.key, request.category.value))
        case "entity_type":
            return Subject(request.entity_type)
    raise InvalidArgument.field("entity", "is required, or category or entity_type")


def render_demand(demand: Demand, response: pb.ForecastDemandResponse) -> None:
    """Fills a response."""
    forecast = demand.forecast
    response.method = forecast.method
    response.errors.update(forecast.errors)
    for place, count in enumerate(demand.history.tolist()):
        point = response.history.add(value=count, low=count, high=count)
        fill_timestamp(point.start, demand.start + place * demand.step)
    rows = zip(forecast.values.tolist(), forecast.low.tolist(), forecast.high.tolist(), strict=True)
    for place, (value, low, high) in enumerate(rows, len(demand.history)):
        point = response.points.add(value=value, low=low, high=high)
        fill_timestamp(point.start, demand.start + place * demand.step)


class DemandServicer(DemandServiceServicer):
    """Tells how often a tenant's entities will be asked for."""

    def __init__(self, forecaster: DemandForecaster) -> None:
        self._forecaster = forecaster

    async def ForecastDemand(
        self, request: pb.ForecastDemandRequest, context: _Context
    ) -> pb.ForecastDemandResponse:
        """The steps to come, with intervals, and those that were counted."""
        demand = await self._forecaster.forecast(tenant_of_call(), parse_query(request))
        response = pb.ForecastDemandResponse()
        render_demand(demand, response)
        return response
