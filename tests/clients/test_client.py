"""Both clients against a small server: what they send, what they make of answers and of errors."""

import inspect
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import grpc
import penchant
import pytest
from penchant import Client, EntityDraft, Interaction, SyncClient, requests, responses
from penchant.v1.recommendation_pb2 import RecommendResponse


async def test_recommend_sends_arguments_and_renders_the_answer(either, seen):
    answer = await either.call(
        "recommend",
        user_id="u1",
        entity_type="book",
        page_size=10,
        filter="year > 1990",
        boosts={"year > 2000": 2.0},
        exclude=[("book", "b9")],
        attributes=[],
        min_score=0.0,
        explain=True,
    )

    sent = seen.requests[0]
    assert (sent.user_id, sent.page_size, sent.filter, sent.boosts[0].factor) == (
        "u1",
        10,
        "year > 1990",
        2.0,
    )
    assert sent.HasField("attribute_mask")
    assert sent.HasField("min_score")
    assert not sent.HasField("session_id")
    [item] = answer
    assert item.entity == ("book", "b0")
    assert item.reasons[0].because_of[0].entity_id == "b1"
    assert item.attributes == {
        "year": 1995,
        "price": 2.5,
        "tags": ["a", None, {"deep": True}],
        "title": "T",
    }
    assert isinstance(item.attributes["year"], int)
    assert answer.explanation is not None
    assert answer.explanation.candidate_counts == {"a": 3}


def test_recommend_asks_for_an_older_answer_and_tells_of_it():
    asked = requests.recommend(user_id="u1", max_staleness=timedelta(seconds=1.5))
    assert asked.max_staleness.ToMilliseconds() == 1500
    assert not requests.recommend(user_id="u1").HasField("max_staleness")
    told = [responses.recommend(RecommendResponse(stale=stale)).stale for stale in (True, False)]
    assert told == [True, False]


async def test_calls_carry_tenant_key_and_deadline(either, seen):
    begin = time.monotonic()
    await either.call("recommend", user_id="u1")

    took = time.monotonic() - begin
    assert seen.metadata["x-tenant-id"] == "shop"
    assert seen.metadata["authorization"] == "Bearer k"
    # gRPC rounds a timeout up on its way to the service
    assert 4.9 - took < seen.deadline < 5.5


async def test_using_changes_tenant_and_deadline_on_the_same_connection(either, seen):
    other = either.using(tenant="b", timeout=60)

    await other.call("recommend", user_id="u1")
    assert seen.metadata["x-tenant-id"] == "b"
    assert 50 < seen.deadline < 61
    await either.call("recommend", user_id="u1")
    assert seen.metadata["x-tenant-id"] == "shop"


async def test_unavailable_is_tried_again(either, seen):
    seen.refusals = 3
    answer = await either.call("recommend", user_id="u1")

    assert answer.recommendation_id == "r1"
    assert len(seen.requests) == 4


async def test_unavailable_is_raised_after_four_attempts(either, seen):
    seen.refusals = 9
    with pytest.raises(penchant.Unavailable, match="not now"):
        await either.call("recommend", user_id="u1")

    assert len(seen.requests) == 4


async def test_delete_is_tried_once(either, seen):
    with pytest.raises(penchant.Unavailable):
        await either.call("delete_entity", "book", "b1")

    assert len(seen.requests) == 1


async def test_nobody_listening_is_unavailable():
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(penchant.Unavailable) as raised:
            await client.recommend(user_id="u1")
    assert raised.value.reason == ""


async def test_ingest_repeats_one_interaction_id(either, seen):
    seen.refusals = 2
    ack = await either.call("ingest", "u1", "book", "b1", "view", metadata={"page": 2})

    ids = {request.interaction.interaction_id for request in seen.requests}
    assert ids == {ack.interaction_id}
    assert len(ack.interaction_id) == 36
    assert len(seen.requests) == 3


async def test_deadline_ends_a_slow_call(either):
    with pytest.raises(penchant.DeadlineExceeded):
        await either.using(timeout=0.2).call("recommend", user_id="slow")


async def test_error_has_the_details_of_the_service(either):
    with pytest.raises(penchant.InvalidArgument) as raised:
        await either.call("recommend", user_id="bad")

    error = raised.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_FILTER"
    assert error.field_violations == (penchant.FieldViolation("filter", "ends early"),)
    assert error.metadata == {"position": "7"}
    assert error.retry_after == 1.5
    assert error.request_id == "q1"
    assert str(error) == "INVALID_FILTER: filter does not parse"


async def test_error_of_another_code_is_a_penchant_error(either):
    with pytest.raises(penchant.PenchantError) as raised:
        await either.call("recommend", user_id="plain")

    assert type(raised.value) is penchant.PenchantError
    assert raised.value.code is grpc.StatusCode.DATA_LOSS


async def test_recommend_pages_gives_items_of_all_pages(either, seen):
    items = await either.all("recommend_pages", user_id="u1", page_size=1)

    assert [item.entity.entity_id for item in items] == ["b0", "b1", "b2"]
    assert [request.page_token for request in seen.requests] == ["", "1", "2"]


async def test_admin_pages_give_messages(either):
    tenants = await either.all("admin.list_tenants")

    assert [tenant.tenant_id for tenant in tenants] == ["a", "b"]


async def test_batch_recommend_gives_errors_in_their_place(either):
    asked = [requests.recommend(user_id="a"), requests.recommend(user_id="b")]
    good, bad = await either.call("batch_recommend", asked)

    assert good.recommendation_id == "r1"
    assert isinstance(bad, penchant.NotFound)
    assert bad.field_violations[0].field == "user_id"


async def test_trending_has_a_window(either):
    answer = await either.call("trending")

    assert answer.window_start is None
    assert answer.window_end == datetime(1970, 1, 2, tzinfo=UTC)


async def test_batch_upsert_cuts_and_counts_over_the_whole_input(either, seen):
    drafts = (EntityDraft("book", f"b{n}", attributes={"n": n}) for n in range(2500))
    answer = await either.call("batch_upsert_entities", drafts)

    assert [len(request.requests) for request in seen.requests] == [1000, 1000, 500]
    assert answer.upserted_count == 2497
    assert [error.index for error in answer.errors] == [3, 1003, 2003]
    assert answer.errors[0].code is grpc.StatusCode.INVALID_ARGUMENT


async def test_ingest_stream_gives_an_ack_a_batch(either, seen):
    rows = [Interaction("u1", "book", f"b{n}", "view") for n in range(5)]
    acks = await either.all("ingest_stream", [*rows[:3], rows[3:], []], batch_size=2)

    assert [(ack.sequence, ack.stored_count) for ack in acks] == [(0, 2), (1, 1), (2, 2)]
    sent = [row.interaction_id for request in seen.requests for row in request.interactions]
    assert sent == [row.interaction_id for row in rows]
    assert seen.metadata["x-tenant-id"] == "shop"
    assert seen.deadline > 60


async def test_ingest_stream_takes_async_rows(target, seen):
    async def rows() -> AsyncIterator[Interaction]:
        for n in range(3):
            yield Interaction("u1", "book", f"b{n}", "view")

    async with Client(target) as client:
        acks = [ack async for ack in client.ingest_stream(rows(), batch_size=2)]

    assert [ack.stored_count for ack in acks] == [2, 1]


async def test_ingest_stream_raises_the_rows_own_error_after_the_acks(either):
    def rows():
        yield Interaction("u1", "book", "b1", "view")
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await either.all("ingest_stream", rows(), batch_size=1)


async def test_ingest_stream_raises_the_services_error(either):
    with pytest.raises(penchant.InvalidArgument):
        await either.all("ingest_stream", [Interaction("bad", "book", "b1", "view")])


async def test_ingest_stream_left_early_ends_the_call(target):
    rows = (Interaction("u1", "book", f"b{n}", "view") for n in range(10_000_000))
    async with Client(target) as client:
        acks = client.ingest_stream(rows, batch_size=1)
        assert (await anext(acks)).stored_count == 1
        await acks.aclose()


def test_clients_have_the_same_calls():
    def names(owner: type) -> set[str]:
        return {name for name in vars(owner) if not name.startswith("_")}

    assert names(SyncClient) == names(Client)
    assert names(type(SyncClient().admin)) == names(type(Client().admin))


def test_calls_show_their_arguments():
    parameters = inspect.signature(SyncClient().recommend).parameters

    assert {"user_id", "page_size", "explain"} <= set(parameters)


def test_upsert_masks_what_is_given():
    request = requests.upsert_entity("book", "b1", attributes={}, hidden=False)

    assert list(request.update_mask.paths) == ["attributes", "hidden"]
    assert not requests.upsert_entity("book", "b1").HasField("update_mask")
    cleared = requests.upsert_entity("book", "b1", update_mask=["available_from"])
    assert list(cleared.update_mask.paths) == ["available_from"]


def test_interaction_survives_the_wire():
    value = Interaction(
        None,
        "book",
        "b1",
        "view",
        session_id="s1",
        weight=0.0,
        metadata={"page": 2},
        timestamp=datetime(2024, 1, 2, 3, 4, 5, 678901, UTC),
        recommendation_id="r1",
        position=0,
    )

    assert responses.interaction(requests.interaction(value)) == value


@pytest.mark.parametrize(
    "build",
    [
        lambda: requests.recommend(user_id="a", session_id="b"),
        lambda: requests.ingest("a", "book", "b1", "view", session_id="s"),
        lambda: requests.ingest("a", "book", "b1", "view", timestamp=datetime(2024, 1, 1)),
        lambda: requests.merge_users("a", source_user_id="b", source_session_id="c"),
    ],
    ids=["two subjects", "user and session", "no time zone", "two sources"],
)
def test_contradictory_arguments_are_value_errors(build):
    with pytest.raises(ValueError, match=r"only one of|time zone"):
        build()
