"""Quotas of tenants: each has its details, raising it helps, and nothing is half written."""

import asyncio
import contextlib
import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from penchant.v1 import (
    admin_pb2,
    common_pb2,
    embedding_pb2,
    entity_pb2,
    interaction_pb2,
    model_pb2,
    recommendation_pb2,
)

from jobs.context import job_context
from jobs.registry import run_once
from tests.rpc.conftest import Service, interaction


async def limit(service: Service, tenant: str = "a", **quotas: float) -> admin_pb2.Quotas:
    request = admin_pb2.SetQuotasRequest(tenant_id=tenant, quotas=admin_pb2.Quotas(**quotas))
    return (await service.call("SetQuotas", request, tenant=None)).quotas


async def told(service: Service, tenant: str = "a") -> Any:
    request = admin_pb2.GetQuotasRequest(tenant_id=tenant)
    return await service.call("GetQuotas", request, tenant=None)


async def exceeded(work: Any) -> tuple[error_details_pb2.ErrorInfo, Any, float]:
    """The ErrorInfo, the QuotaFailure's only violation and the seconds of the RetryInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await work
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(caught.value)
    info, failure, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.QuotaFailure(),
        error_details_pb2.RetryInfo(),
    )
    for packed in status.details:
        assert packed.Unpack(info) or packed.Unpack(failure) or packed.Unpack(retry)
    assert info.reason == "QUOTA_EXCEEDED"
    (violation,) = failure.violations
    assert violation.subject == "tenant:a"
    assert violation.description.startswith(f"{info.metadata['quota']}: ")
    return info, violation, retry.retry_delay.ToTimedelta().total_seconds()


async def ingest(service: Service, count: int, start: int = 0, entity: str = "b") -> Any:
    """One batch of a stream, its ids numbered from `start`; its answer."""
    request = interaction_pb2.IngestInteractionsRequest()
    for number in range(start, start + count):
        row = interaction(interaction_id=f"i{number}", user_id=f"u{number % 5}")
        row.entity.entity_id = f"{entity}{number % 3}"
        request.interactions.append(row)

    async def batches() -> Any:
        yield request

    call = service.interaction.IngestInteractions(
        batches(), metadata=(("x-tenant-id", "a"),), timeout=20
    )
    (answer,) = [answer async for answer in call]
    return answer


async def stored(service: Service) -> int:
    async with service.deps.maintenance.connection(None) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM interactions"))


async def test_tenant_without_quotas_tells_what_it_uses(service: Service):
    await service.put("b0")
    await ingest(service, 4)
    answer = await told(service)
    assert answer.quotas == admin_pb2.Quotas()
    assert (answer.usage.entities, answer.usage.interactions_today) == (3, 4)
    assert answer.usage.stored_bytes > 1000
    assert answer.usage.measured_at.seconds > 0


async def test_quotas_are_stored_as_they_are_set(service: Service):
    given = admin_pb2.Quotas(
        requests_per_second=7.5,
        burst=20,
        entities=1000,
        interactions_per_day=10**12,
        training_minutes_per_day=1.5,
        stored_bytes=2**40,
    )
    request = admin_pb2.SetQuotasRequest(tenant_id="a", quotas=given)
    assert (await service.call("SetQuotas", request, tenant=None)).quotas == given
    assert (await told(service)).quotas == given
    assert await limit(service, entities=5) == admin_pb2.Quotas(entities=5)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("quotas", "field"),
    [
        ({"requests_per_second": -1}, "quotas.requests_per_second"),
        ({"requests_per_second": float("nan")}, "quotas.requests_per_second"),
        ({"training_minutes_per_day": float("inf")}, "quotas.training_minutes_per_day"),
        ({"burst": 0.5}, "quotas.burst"),
        ({"entities": -1}, "quotas.entities"),
        ({"stored_bytes": -1}, "quotas.stored_bytes"),
    ],
)
async def test_quotas_that_make_no_sense_are_refused(standing: Service, quotas, field):
    request = admin_pb2.SetQuotasRequest(tenant_id="a", quotas=admin_pb2.Quotas(**quotas))
    refusal = await standing.refused("SetQuotas", request, tenant=None)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


@pytest.mark.asyncio(loop_scope="module")
async def test_quotas_of_nobody_are_not_found(standing: Service):
    for method, request in (
        ("GetQuotas", admin_pb2.GetQuotasRequest(tenant_id="nobody")),
        ("SetQuotas", admin_pb2.SetQuotasRequest(tenant_id="nobody", quotas={"entities": 1})),
    ):
        assert (await standing.refused(method, request, None)).reason == "TENANT_NOT_FOUND"
    refusal = await standing.refused("SetQuotas", admin_pb2.SetQuotasRequest(tenant_id="a"), None)
    assert list(refusal.fields) == ["quotas"]


async def test_requests_beyond_the_burst_are_refused_and_others_are_not(service: Service):
    await service.make_tenant("b")
    await service.put("b0")
    await limit(service, requests_per_second=0.02, burst=3)
    for _ in range(3):
        await service.recommend()
    info, violation, retry = await exceeded(service.recommend())
    assert dict(info.metadata) == {
        "tenant_id": "a",
        "quota": "requests_per_second",
        "limit": "0.02",
    }
    assert violation.description.endswith("The tenant may make 0.02 requests a second.")
    assert 0 < retry <= 50
    for _ in range(10):
        await service.recommend(tenant="b")
        await told(service)


async def test_refusal_is_heard_however_large_the_request_is(service: Service):
    large = recommendation_pb2.RecommendRequest(user_id="u")
    large.exclude.extend([common_pb2.EntityRef(entity_type="book", entity_id="x" * 40)] * 60_000)
    await limit(service, requests_per_second=0.001, burst=1)
    await service.recommend()

    for _ in range(20):
        info, _, _ = await exceeded(service.call("Recommend", large))
        assert info.metadata["quota"] == "requests_per_second"


async def test_refusal_does_not_wait_for_the_message(service: Service):
    await limit(service, requests_per_second=0.001, burst=1)
    await service.recommend()
    call = service.channel.stream_unary("/penchant.v1.RecommendationService/Recommend")(
        metadata=(("x-tenant-id", "a"),), timeout=10
    )

    info, _, _ = await exceeded(call)

    assert info.metadata["quota"] == "requests_per_second"


async def test_raised_rate_is_learnt_though_every_call_is_refused(service: Service):
    await limit(service, requests_per_second=0.001, burst=1)
    await service.recommend()
    await exceeded(service.recommend())
    # As another worker or host would: this one's memory is left alone.
    async with service.deps.maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE tenants SET quotas = '{}', version = nextval('revision_seq')"
        )
    end = time.monotonic() + 60
    learnt = False
    while not learnt and time.monotonic() < end:
        await asyncio.sleep(0.05)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await service.recommend()
            learnt = True
    assert learnt


async def test_batch_counts_as_what_it_holds(service: Service):
    await limit(service, requests_per_second=0.1, burst=10)
    batch = recommendation_pb2.BatchRecommendRequest(
        requests=[recommendation_pb2.RecommendRequest()] * 9
    )
    await service.call("BatchRecommend", batch)
    info, _, retry = await exceeded(service.call("BatchRecommend", batch))
    assert info.metadata["quota"] == "requests_per_second"
    assert retry > 60 - 1


async def test_batches_of_a_stream_wait_for_their_turn(service: Service):
    await limit(service, requests_per_second=20, burst=1)

    async def batches() -> Any:
        for number in range(8):
            yield interaction_pb2.IngestInteractionsRequest(
                sequence=number, interactions=[interaction(interaction_id=f"i{number}")]
            )

    begin = time.monotonic()
    call = service.interaction.IngestInteractions(
        batches(), metadata=(("x-tenant-id", "a"),), timeout=20
    )
    with_turns = [answer.stored_count async for answer in call]
    assert with_turns == [1] * 8
    assert time.monotonic() - begin > 0.3


async def test_entities_beyond_the_quota_are_refused_in_whole(service: Service):
    for number in range(3):
        await service.put(f"b{number}")
    await limit(service, entities=5)
    batch = entity_pb2.BatchUpsertEntitiesRequest()
    for number in range(1, 7):
        entity = batch.requests.add().entity.entity
        entity.entity_type, entity.entity_id = "book", f"b{number}"
    info, _, retry = await exceeded(service.call("BatchUpsertEntities", batch))
    assert (info.metadata["quota"], info.metadata["limit"]) == ("entities", "5")
    assert retry == 60
    assert (await told(service)).usage.entities == 3

    await service.put("b3")
    await service.put("b4")
    await service.put("b4", title="changed, not new")
    await exceeded(service.put("b5"))
    delete = entity_pb2.DeleteEntityRequest()
    delete.entity.entity_type, delete.entity.entity_id = "book", "b4"
    await service.call("DeleteEntity", delete)
    await service.put("b5")
    assert (await told(service)).usage.entities == 5
    await limit(service, entities=6)
    await service.put("b6")


async def test_entities_are_counted_right_over_measurements(service: Service):
    await limit(service, entities=100)
    for number in range(4):
        await service.put(f"b{number}")
    async with job_context(service.settings) as context:
        await run_once(context, {"quotas"})
    await service.put("b4")
    async with service.deps.maintenance.connection(None) as connection:
        await connection.execute("UPDATE quota_usage SET day = day - 2")
    await service.put("b5")
    assert (await told(service)).usage.entities == 6
    async with job_context(service.settings) as context:
        await run_once(context, {"quotas"})
    assert (await told(service)).usage.entities == 6
    async with service.deps.maintenance.connection(None) as connection:
        days = await connection.fetchval("SELECT count(DISTINCT day) FROM quota_usage")
    assert days == 1


async def test_unknown_entities_of_interactions_count_too(service: Service):
    await service.put("b0")
    await limit(service, entities=2)
    await service.did("ada", "b0")
    await service.did("ada", "x1")
    info, _, _ = await exceeded(service.did("ada", "x2"))
    assert info.metadata["quota"] == "entities"
    assert await stored(service) == 2
    await service.did("bob", "x1")


async def test_interactions_of_the_day_are_refused_in_whole_and_repetitions_are_not(
    service: Service,
):
    await ingest(service, 3)
    await limit(service, interactions_per_day=10)
    assert (await ingest(service, 6, start=3)).stored_count == 6
    info, _, retry = await exceeded(ingest(service, 2, start=9))
    assert (info.metadata["quota"], info.metadata["limit"]) == ("interactions_per_day", "10")
    assert 0 < retry <= 86400
    assert await stored(service) == 9
    assert (await told(service)).usage.interactions_today == 9

    assert (await ingest(service, 1, start=9)).stored_count == 1
    assert (await ingest(service, 5)).duplicate_count == 5
    await exceeded(ingest(service, 6, start=5))
    await exceeded(service.did("ada", "b0"))
    assert await stored(service) == 10
    await limit(service, interactions_per_day=11)
    await service.did("ada", "b0")


async def test_interactions_of_yesterday_do_not_count(service: Service):
    await limit(service, interactions_per_day=2)
    await ingest(service, 2)
    await exceeded(ingest(service, 1, start=2))
    async with service.deps.maintenance.connection(None) as connection:
        await connection.execute("UPDATE quota_usage SET day = day - 1")
    assert (await ingest(service, 2, start=2)).stored_count == 2


async def test_concurrent_batches_go_beyond_by_no_more_than_is_under_way(service: Service):
    await limit(service, interactions_per_day=50)
    results = await asyncio.gather(
        *(ingest(service, 5, start=5 * n, entity=f"e{n}-") for n in range(30)),
        return_exceptions=True,
    )
    good = [answer for answer in results if not isinstance(answer, BaseException)]
    connections = service.settings.database.max_connections
    assert 50 <= await stored(service) <= 50 + 5 * connections
    assert await stored(service) == 5 * len(good)
    assert (await told(service)).usage.interactions_today == await stored(service)


async def test_training_beyond_the_minutes_of_the_day_is_refused(service: Service):
    await service.call(
        "CreateModel", model_pb2.CreateModelRequest(model={"name": "m", "algorithm": "popularity"})
    )
    await limit(service, training_minutes_per_day=2)
    async with service.deps.maintenance.connection(None) as connection:
        await connection.execute(
            "INSERT INTO quota_usage (tenant_id, day, slot, training_secs)"
            " VALUES ('a', (now() AT TIME ZONE 'UTC')::date, 0, 120)"
        )
    train = model_pb2.TrainModelRequest(name="m")
    info, _, retry = await exceeded(service.call("TrainModel", train))
    assert info.metadata["quota"] == "training_minutes_per_day"
    assert 0 < retry <= 86400
    await exceeded(service.call("EvaluateModel", model_pb2.EvaluateModelRequest(name="m")))
    assert (await told(service)).usage.training_minutes_today == 2

    await limit(service, training_minutes_per_day=2.5)
    running = await service.call("TrainModel", train)
    await limit(service, training_minutes_per_day=1)
    assert (await service.call("TrainModel", train)).name == running.name


async def test_stored_bytes_refuse_what_stores_more(service: Service):
    await service.call(
        "CreateModel", model_pb2.CreateModelRequest(model={"name": "m", "algorithm": "popularity"})
    )
    await service.put("b0")
    await service.did("ada", "b0", interaction_id="first")
    await limit(service, stored_bytes=1)
    for work in (
        service.put("b1"),
        service.did("ada", "b0"),
        service.call("TrainModel", model_pb2.TrainModelRequest(name="m")),
        service.call(
            "SaveEmbeddings",
            embedding_pb2.SaveEmbeddingsRequest(
                embeddings=[
                    {
                        "entity": {"entity_type": "t", "entity_id": "e"},
                        "values": [1],
                        "version": "1",
                    }
                ]
            ),
        ),
    ):
        info, _, retry = await exceeded(work)
        assert info.metadata["quota"] == "stored_bytes"
        assert retry == 60
    assert await stored(service) == 1
    await service.recommend()

    usage = (await told(service)).usage
    await limit(service, stored_bytes=usage.stored_bytes * 2)
    await service.put("b1")
    await service.did("ada", "b1")


async def test_usage_goes_with_its_tenant(service: Service):
    await limit(service, entities=10, interactions_per_day=10)
    await service.did("ada", "b0")
    await service.call("DeleteTenant", admin_pb2.DeleteTenantRequest(tenant_id="a"), None)
    async with job_context(service.settings) as context:
        await run_once(context, {"retention"})
    async with service.deps.maintenance.connection(None) as connection:
        for table in ("quota_usage", "quota_measures"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_stream_that_begins_beyond_the_rate_waits(service: Service):
    await limit(service, requests_per_second=2, burst=1)
    begin = time.monotonic()
    await service.recommend()
    assert (await ingest(service, 1)).stored_count == 1
    assert time.monotonic() - begin > 0.9
