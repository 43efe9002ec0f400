"""DemandService: a log of eight weeks in 2024, counted and continued."""

import importlib
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from penchant import Client
from penchant.v1 import admin_pb2
from penchant.v1 import demand_pb2 as pb
from penchant.v1.interaction_pb2 import IngestInteractionsRequest

from tests.rpc.conftest import Service, book, interaction

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
DAYS = 56
END = START + timedelta(days=DAYS)
WEEK = [2, 1, 1, 1, 3, 6, 4]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def likes(entity_id: str, at: datetime, count: int = 1, kind: str = "like") -> list:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return [
        interaction(
            entity=book(entity_id), user_id=f"u{number}", timestamp=stamp, interaction_type=kind
        )
        for number in range(count)
    ]


async def ingest(service: Service, rows: list, tenant: str = "a") -> None:
    call = service.interaction.IngestInteractions(
        iter([IngestInteractionsRequest(interactions=rows)]),
        metadata=(("x-tenant-id", tenant),),
        timeout=30,
    )
    (answer,) = [answer async for answer in call]
    assert (answer.stored_count, list(answer.errors)) == (len(rows), [])


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def log(standing: Service) -> None:
    """Of `a`: b00 in a weekly rhythm at noon, b01 once a night, b02 for ten days, b03 never."""
    # The first forecast of a process imports it, which takes a busy machine longer than a call has.
    importlib.import_module("statsmodels.tsa.exponential_smoothing.ets")
    await standing.put("b00", genre="sf", year=1999)
    await standing.put("b01", genre=["crime", "sf"])
    await standing.put("b02", genre="romance")
    await standing.put("b03")
    rows = []
    for number in range(DAYS):
        day = START + number * DAY
        rows += likes("b00", day + timedelta(hours=12, minutes=30), WEEK[number % 7])
        rows += likes("b01", day)
        rows += likes("b00", day, kind="impression")
    for number in range(10):
        rows += likes("b02", END - (number + 1) * DAY)
    await ingest(standing, rows)
    await standing.make_tenant("b")
    await standing.put("b00", tenant="b", genre="sf")
    await ingest(standing, likes("b00", START, 3), tenant="b")


async def forecast(service: Service, **fields) -> pb.ForecastDemandResponse:
    request = pb.ForecastDemandRequest(**{"entity": book(), **fields})
    return await service.call("ForecastDemand", request)


def starts(points) -> list[datetime]:
    return [point.start.ToDatetime(UTC) for point in points]


async def test_forecast_continues_the_weekly_rhythm(standing: Service):
    answer = await forecast(standing)
    assert starts(answer.history) == [START + n * DAY for n in range(DAYS)]
    assert [point.value for point in answer.history] == WEEK * 8
    assert all(point.low == point.value == point.high for point in answer.history)
    assert starts(answer.points) == [END + n * DAY for n in range(7)]
    assert [round(point.value, 1) for point in answer.points] == WEEK
    assert answer.method in answer.errors
    assert set(answer.errors) <= {"seasonal_naive", "exponential_smoothing"}


async def test_forecast_by_the_hour_knows_the_time_of_day(standing: Service):
    answer = await forecast(standing, granularity=pb.GRANULARITY_HOURLY, horizon=48)
    end = END - 11 * HOUR  # of the tenant's newest interaction, at half past noon
    assert starts(answer.points) == [end + n * HOUR for n in range(48)]
    values = [point.value for point in answer.points]
    noon = {n for n in range(48) if (end + n * HOUR).hour == 12}
    assert set(sorted(range(48), key=values.__getitem__)[-2:]) == noon
    # of the last 26 days, from their first noon on
    assert starts(answer.history)[0] == end - 26 * DAY + 23 * HOUR
    assert [point.value for point in answer.history[:2]] == [WEEK[2], 0]


async def test_forecast_of_a_category_adds_up_its_entities(standing: Service):
    category = pb.AttributeValue(key="genre", value="sf")
    answer = await forecast(standing, entity=None, category=category)
    assert [point.value for point in answer.history[:7]] == [count + 1 for count in WEEK]
    number = pb.AttributeValue(key="year", value="1999")
    answer = await forecast(standing, entity=None, category=number)
    assert [point.value for point in answer.history[:7]] == WEEK


async def test_forecast_of_a_type_counts_all_of_it(standing: Service):
    answer = await forecast(standing, entity=None, entity_type="book", history_steps=14)
    assert [point.value for point in answer.history] == [
        n + 1 + later for n, later in zip(WEEK * 2, [0] * 4 + [1] * 10, strict=True)
    ]


async def test_forecast_counts_the_types_that_are_named(standing: Service):
    answer = await forecast(standing, interaction_types=["impression", "impression"])
    assert {point.value for point in answer.history} == {1}
    answer = await forecast(standing, interaction_types=["impression", "like"], horizon=366)
    assert [point.value for point in answer.history[:7]] == [count + 1 for count in WEEK]
    assert len(answer.points) == 366


async def test_forecast_bounds_widen_with_the_level(standing: Service):
    fields = {"entity": None, "entity_type": "book"}
    narrow, wide = [await forecast(standing, **fields, level=level) for level in (0.6, 0.99)]
    for near, far in zip(narrow.points, wide.points, strict=True):
        assert 0 <= far.low <= near.low <= near.value <= near.high <= far.high


@pytest.mark.parametrize(
    ("entity_id", "steps"), [("b02", 10), ("b03", 0)], ids=["ten days", "never"]
)
async def test_forecast_of_too_little_is_refused(standing: Service, entity_id: str, steps: int):
    request = pb.ForecastDemandRequest(entity=book(entity_id))
    refusal = await standing.refused("ForecastDemand", request)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "NOT_ENOUGH_DATA")
    assert refusal.metadata == {"steps": str(steps), "needed": "14"}
    assert f"{steps} full days" in refusal.message


async def test_forecast_for_a_tenant_without_a_log_is_refused(standing: Service):
    await standing.make_tenant("empty")
    request = pb.ForecastDemandRequest(entity_type="book")
    refusal = await standing.refused("ForecastDemand", request, tenant="empty")
    assert refusal.reason == "NOT_ENOUGH_DATA"


async def test_forecast_counts_the_tenants_own(standing: Service):
    for request in (
        pb.ForecastDemandRequest(entity=book()),
        pb.ForecastDemandRequest(category=pb.AttributeValue(key="genre", value="sf")),
        pb.ForecastDemandRequest(entity_type="book"),
    ):
        refusal = await standing.refused("ForecastDemand", request, tenant="b")
        assert refusal.metadata == {"steps": "1", "needed": "14"}
    refusal = await standing.refused(
        "ForecastDemand", pb.ForecastDemandRequest(entity=book("b01")), tenant="b"
    )
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "ENTITY_NOT_FOUND")


async def test_forecast_of_a_live_log_ends_with_the_last_full_step(standing: Service):
    await standing.make_tenant("live")
    await standing.put("b00", tenant="live")
    before = datetime.now(UTC)
    rows = [row for n in range(40) for row in likes("b00", before - n * HOUR)]
    await ingest(standing, [*rows, *likes("b00", before + timedelta(hours=20))], tenant="live")
    request = pb.ForecastDemandRequest(entity=book(), granularity=pb.GRANULARITY_HOURLY)
    refusal = await standing.refused("ForecastDemand", request, tenant="live")
    # the hour under way does not count, unless it ended meanwhile
    assert refusal.metadata["steps"] in {"39", "40"}
    await ingest(standing, likes("b00", before - 60 * HOUR), tenant="live")
    answer = await standing.call("ForecastDemand", request, tenant="live")
    hours = {at.replace(minute=0, second=0, microsecond=0) for at in (before, datetime.now(UTC))}
    assert starts(answer.points)[0] in hours
    assert [point.value for point in answer.history][-39:-1] == [1] * 38
    assert answer.history[1].value == 0


REFUSED = {
    "no subject": (pb.ForecastDemandRequest(), "entity"),
    "no entity type": (pb.ForecastDemandRequest(entity=book()), "entity.entity_type"),
    "no entity id": (pb.ForecastDemandRequest(entity=book("")), "entity.entity_id"),
    "empty type": (pb.ForecastDemandRequest(entity_type=""), "entity_type"),
    "no key": (
        pb.ForecastDemandRequest(category=pb.AttributeValue(value="sf")),
        "category.key",
    ),
    "no value": (
        pb.ForecastDemandRequest(category=pb.AttributeValue(key="genre")),
        "category.value",
    ),
    "granularity": (pb.ForecastDemandRequest(entity=book(), granularity=9), "granularity"),
    "horizon": (pb.ForecastDemandRequest(entity=book(), horizon=367), "horizon"),
    "negative horizon": (pb.ForecastDemandRequest(entity=book(), horizon=-1), "horizon"),
    "long history": (pb.ForecastDemandRequest(entity=book(), history_steps=5001), "history_steps"),
    "short history": (pb.ForecastDemandRequest(entity=book(), history_steps=13), "history_steps"),
    "low level": (pb.ForecastDemandRequest(entity=book(), level=0.5), "level"),
    "level of one": (pb.ForecastDemandRequest(entity=book(), level=1), "level"),
    "level is NaN": (pb.ForecastDemandRequest(entity=book(), level=float("nan")), "level"),
    "unknown type": (
        pb.ForecastDemandRequest(entity=book(), interaction_types=["like", "nod"]),
        "interaction_types[1]",
    ),
}
REFUSED["no entity type"][0].entity.entity_type = ""


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_forecast_refuses(standing: Service, case: str):
    request, field = REFUSED[case]
    refusal = await standing.refused("ForecastDemand", request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


async def test_forecast_without_types_of_positive_weight_has_nothing_to_count(standing: Service):
    await standing.make_tenant("zero")
    kinds = await standing.call(
        "ListInteractionTypes", admin_pb2.ListInteractionTypesRequest(tenant_id="zero")
    )
    for kind in kinds.interaction_types:
        await standing.call(
            "DeleteInteractionType",
            admin_pb2.DeleteInteractionTypeRequest(
                tenant_id="zero", interaction_type=kind.interaction_type
            ),
        )
    request = pb.ForecastDemandRequest(entity_type="book")
    assert (await standing.refused("ForecastDemand", request, "zero")).reason == "NOT_ENOUGH_DATA"


async def test_clients_forecast(standing: Service):
    target = f"127.0.0.1:{standing.port}"
    async with Client(target, tenant="a", timeout=20) as client:
        found = await client.forecast_demand(entity=("book", "b00"), horizon=3, level=0.8)
        hourly = await client.forecast_demand(category=("genre", "sf"), hourly=True)
        with pytest.raises(ValueError, match="only one of"):
            await client.forecast_demand(entity=("book", "b00"), entity_type="book")
    assert [point.start for point in found.points] == [END + n * DAY for n in range(3)]
    assert len(found.history) == DAYS
    assert found.errors[found.method] >= 0
    assert len(hourly.points) == 24
