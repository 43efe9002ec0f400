"""Ready answers: sent again as they are, until anything that they depend on changes."""

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from penchant.v1 import (
    admin_pb2,
    entity_pb2,
    interaction_pb2,
    privacy_pb2,
    recommendation_pb2,
)

from server import hot_path
from server.call import Call
from tests.rpc.conftest import Service, book, ids, refusal_of, running
from tests.rpc.keys import make_key, metadata_of, refused, send
from tests.waiting import until


@pytest.fixture(autouse=True)
def _pauses_change_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the door found holds though a busy machine brings the message much later."""
    monkeypatch.setattr(hot_path, "_HOLDS_SECS", 60)


async def again(service: Service, user_id: str = "ada", **fields: Any) -> tuple[Any, bool]:
    """The answer, and whether it was a ready one."""
    hits = service.deps.wire_cache.hits
    before = hits.total
    answer = await service.recommend(user_id, **fields)
    return answer, hits.total > before


async def test_same_request_has_the_same_answer_byte_for_byte(library: Service) -> None:
    first, ready = await again(library)
    second, ready_again = await again(library)
    assert (ready, ready_again) == (False, True)
    assert first.SerializeToString() == second.SerializeToString()
    other, ready = await again(library, "ben")
    assert not ready
    assert other.recommendation_id != first.recommendation_id


async def change_profile(service: Service) -> None:
    await service.did("ada", "b07")


async def change_stream(service: Service) -> None:
    async def batches() -> Any:
        row = interaction_pb2.Interaction(
            user_id="ada", entity=book("b08"), interaction_type="like"
        )
        yield interaction_pb2.IngestInteractionsRequest(interactions=[row])

    call = service.interaction.IngestInteractions(batches(), metadata=(("x-tenant-id", "a"),))
    assert [answer.stored_count async for answer in call] == [1]


async def delete_interactions(service: Service) -> None:
    request = interaction_pb2.DeleteInteractionsRequest(user_id="ada")
    assert (await service.call("DeleteInteractions", request)).deleted_count == 1


async def merge_users(service: Service) -> None:
    await service.did("guest", "b09")
    request = interaction_pb2.MergeUsersRequest(source_session_id="", source_user_id="guest")
    request.target_user_id = "ada"
    await service.call("MergeUsers", request)


async def hide(service: Service) -> None:
    await service.hide("b10")


async def delete_entity(service: Service) -> None:
    await service.call("DeleteEntity", entity_pb2.DeleteEntityRequest(entity=book("b11")))


async def add_entity(service: Service) -> None:
    await service.put("new", title="new", genres=["sf"], year=2030)


async def change_settings(service: Service) -> None:
    request = admin_pb2.UpdateTenantRequest()
    request.tenant.tenant_id = "a"
    request.tenant.settings.source_weights["popular"] = 2.0
    request.update_mask.paths.append("settings.source_weights")
    await service.call("UpdateTenant", request, tenant=None)


async def change_interaction_type(service: Service) -> None:
    request = admin_pb2.SetInteractionTypeRequest(tenant_id="a")
    request.interaction_type.interaction_type = "like"
    request.interaction_type.weight = 3
    await service.call("SetInteractionType", request, tenant=None)


async def set_quotas(service: Service) -> None:
    request = admin_pb2.SetQuotasRequest(tenant_id="a", quotas={"requests_per_second": 1000})
    await service.call("SetQuotas", request, tenant=None)


async def invalidate(service: Service) -> None:
    await service.call(
        "InvalidateCache", admin_pb2.InvalidateCacheRequest(tenant_id="a", all=True), None
    )


async def refresh(service: Service) -> None:
    await service.run_jobs()


@pytest.mark.parametrize(
    "change",
    [
        change_profile,
        change_stream,
        delete_interactions,
        merge_users,
        hide,
        delete_entity,
        add_entity,
        change_settings,
        change_interaction_type,
        set_quotas,
        invalidate,
        refresh,
    ],
)
async def test_answer_after_a_change_is_made_anew(library: Service, change: Any) -> None:
    await library.did("ada", "b06")
    before, _ = await again(library)
    assert (await again(library))[1]
    await change(library)
    after, ready = await again(library)
    assert not ready
    assert after.recommendation_id != before.recommendation_id


async def test_liked_entity_is_gone_from_the_next_answer_on_every_worker(
    library: Service, settings: Any
) -> None:
    """Two workers of one host, in one process here: they share nothing but the slots' file."""
    async with running(settings.model_copy(update={"port": 0}), make_tenant=False) as other:
        for number in range(10):
            seen = ids(await other.recommend("ada"))
            assert ids(await other.recommend("ada")) == seen
            ack = await library.did("ada", seen[0])
            assert seen[0] not in ids(await other.recommend("ada"))
            fresh = await other.recommend("ada", at_least_as_fresh=ack.freshness_token)
            assert seen[0] not in ids(fresh), number


async def test_answers_for_once_are_not_kept(library: Service) -> None:
    for fields in ({"record": True}, {"explain": True}):
        await again(library, **fields)
        assert not (await again(library, **fields))[1]
    page = await library.recommend("ada", page_size=5)
    later = {"page_size": 5, "page_token": page.next_page_token}
    await again(library, **later)
    assert not (await again(library, **later))[1]


async def test_batch_holds_what_single_calls_answer(library: Service) -> None:
    wanted = [recommendation_pb2.RecommendRequest(user_id=f"u{n}") for n in range(6)]
    single = [await library.recommend(one.user_id) for one in wanted[:3]]
    bad = recommendation_pb2.RecommendRequest(user_id="u", page_size=-1)
    request = recommendation_pb2.BatchRecommendRequest(requests=[*wanted, bad])
    batch = await library.call("BatchRecommend", request)
    assert [r.response for r in batch.results[:3]] == single
    assert [len(r.response.items) for r in batch.results[3:6]] == [20] * 3
    assert batch.results[6].error.index == 6
    before = library.deps.wire_cache.hits.total
    repeated = await library.call("BatchRecommend", request)
    assert library.deps.wire_cache.hits.total - before == 6
    assert list(repeated.results) == list(batch.results)


async def test_ready_answers_count_against_the_quota_and_carry_the_request_id(
    library: Service,
) -> None:
    request = admin_pb2.SetQuotasRequest(tenant_id="a")
    request.quotas.requests_per_second = 0.02
    request.quotas.burst = 4
    await library.call("SetQuotas", request, tenant=None)
    await library.recommend("ada")
    await library.recommend("ada")
    call = library.recommendation.Recommend(
        recommendation_pb2.RecommendRequest(user_id="ada"),
        metadata=(("x-tenant-id", "a"), ("x-request-id", "mine")),
    )
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine"
    answers = await asyncio.gather(
        *(library.recommend("ada") for _ in range(3)), return_exceptions=True
    )
    refusals = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(refusals) >= 2
    assert {refusal.code() for refusal in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_worker_that_is_full_gives_what_lies_ready_and_refuses_the_rest(
    library: Service, settings: Any
) -> None:
    request = admin_pb2.SetQuotasRequest(tenant_id="a")
    request.quotas.requests_per_second = 0.01
    request.quotas.burst = 5
    small = settings.model_copy(update={"port": 0, "max_concurrent_calls": 1})
    async with running(small, make_tenant=False) as full:
        await full.call("SetQuotas", request, tenant=None)
        first = await full.recommend("ada")
        held = full.interaction.IngestInteractions(metadata=(("x-tenant-id", "a"),))
        row = interaction_pb2.Interaction(
            user_id="zoe", entity=book("b01"), interaction_type="view"
        )
        await held.write(interaction_pb2.IngestInteractionsRequest(interactions=[row]))
        assert (await held.read()).stored_count == 1
        # More than the tenant may: those that are refused for want of room use nothing up.
        for _ in range(6):
            refusal = await refused_for(full.recommend("cleo"))
            assert refusal == "TOO_MANY_CALLS"
        again_, ready = await again(full)
        assert (again_.recommendation_id, ready) == (first.recommendation_id, True)
        await held.done_writing()
        assert await held.read() is grpc.aio.EOF
        assert ids(await full.recommend("cleo"))


async def refused_for(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value).reason


async def test_writers_and_readers_never_see_an_older_answer(library: Service) -> None:
    """Reads race with likes: what was liked before a read began is never in its answer."""
    liked: list[str] = []

    async def read() -> None:
        while len(liked) < 25:
            known = set(liked)
            answer = ids(await library.recommend("ada"))
            assert not known & set(answer)

    async def write() -> None:
        while len(liked) < 25:
            first = ids(await library.recommend("ada"))[0]
            await library.did("ada", first)
            liked.append(first)

    await asyncio.gather(write(), *(read() for _ in range(6)))


async def test_ready_answers_are_for_those_who_may_have_them(library: Service) -> None:
    await library.make_tenant("b")
    names = {
        "reader": await make_key(library, "a", "recommend:read"),
        "other reader": await make_key(library, "a", "recommend:read"),
        "writer": await make_key(library, "a", "interactions:write"),
        "stranger": await make_key(library, "b", "recommend:read"),
    }
    await library.deps.key_ring.look()
    path = "/penchant.v1.RecommendationService/Recommend"
    raw = recommendation_pb2.RecommendRequest(user_id="ada").SerializeToString()
    await send(library, path, raw, metadata_of(names["reader"], "a"))
    before = library.deps.wire_cache.hits.total
    await send(library, path, raw, metadata_of(names["other reader"]))
    await send(library, path, raw, metadata_of(names["reader"], "a"))
    assert library.deps.wire_cache.hits.total == before + 2
    for metadata, reason in (
        (metadata_of(names["writer"], "a"), "SCOPE_MISSING"),
        (metadata_of(names["stranger"], "a"), "TENANT_MISMATCH"),
        (metadata_of(f"{names['reader']}x", "a"), "INVALID_CREDENTIALS"),
        (metadata_of(None, "a"), "UNAUTHENTICATED"),
        ([*metadata_of(names["reader"], "a"), ("x-tenant-id", "b")], ""),
        ([*metadata_of(names["reader"]), *metadata_of(names["writer"])], "INVALID_CREDENTIALS"),
    ):
        refusal = await refused(library, path, raw, metadata)
        assert reason in {"", refusal.reason}
    await send(library, path, raw, metadata_of(names["stranger"]))
    assert library.deps.wire_cache.hits.total == before + 2


async def test_erased_users_leave_nothing_ready(library: Service) -> None:
    await library.did("ada", "b00")
    await library.recommend("ada")
    await library.recommend("ben")
    kept = library.deps.wire_cache.size
    assert kept > 0
    await library.call("EraseUser", privacy_pb2.EraseUserRequest(user_id="ada"))
    await until(lambda: not library.deps.wire_cache.size)


async def test_caller_who_has_seen_a_like_gets_no_older_answer_before_its_writer_hears_of_it(
    library: Service, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between COMMIT and ack a computed answer knows of the like; a ready one must not lack it."""
    async with running(settings.model_copy(update={"port": 0}), make_tenant=False) as other:
        liked = ids(await other.recommend("ada"))[0]
        assert (await again(other))[1]
        database = library.deps.database
        lend, committed, heard = database.connection, asyncio.Event(), asyncio.Event()

        @asynccontextmanager
        async def late(tenant_id: str | None, **fields: Any) -> Any:
            async with lend(tenant_id, **fields) as connection:
                yield connection
                if tenant_id is not None:  # looks at health are of none
                    committed.set()
                    await heard.wait()

        monkeypatch.setattr(database, "connection", late)
        liking = asyncio.create_task(library.did("ada", liked))
        await committed.wait()
        assert liked not in ids(await other.recommend("ada", page_size=19))
        assert liked not in ids(await other.recommend("ada"))
        heard.set()
        await liking
        assert liked not in ids(await other.recommend("ada"))


async def test_what_was_asked_is_not_kept_after_a_call(library: Service) -> None:
    await library.recommend("ada")

    def kept() -> list[Call]:
        # To ask for a weak proxy's class fails once what it stood for is gone; its type is its own.
        calls = [one for one in gc.get_objects() if type(one) is Call]
        return [one for one in calls if one.raw is not None or one.asked is not None]

    await until(lambda: not kept())  # an answer leaves before its call has ended
