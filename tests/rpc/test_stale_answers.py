"""Answers of before a change, for callers who allow them: given at once, and made anew behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from penchant.v1 import (
    admin_pb2,
    privacy_pb2,
    recommendation_pb2,
)

from engine.access import ANONYMOUS
from server import hot_path
from server.renewals import RENEWALS
from storage.api_keys import KeyDraft
from tests.rpc.conftest import Service, ids, running
from tests.rpc.keys import make_key, metadata_of, refused

_A_MINUTE = Duration(seconds=60)


@pytest.fixture(autouse=True)
def _pauses_change_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the door found holds though a busy machine brings the message much later."""
    monkeypatch.setattr(hot_path, "_HOLDS_SECS", 60)


def renewals(outcome: str = "made") -> float:
    return RENEWALS.labels(outcome)._value.get()


async def older(service: Service, user_id: str = "ada", **fields: Any) -> Any:
    """An answer by a caller who takes one of a minute ago."""
    return await service.recommend(user_id, max_staleness=_A_MINUTE, **fields)


async def newer(service: Service, known: Any, ask: Callable[..., Awaitable[Any]] = older) -> Any:
    """The answer that comes after one."""
    async with asyncio.timeout(20):
        while (answer := await ask(service)).recommendation_id == known.recommendation_id:
            assert answer.stale
            await asyncio.sleep(0.02)
    return answer


async def test_older_answer_is_given_at_once_and_made_anew_behind(library: Service) -> None:
    first = await older(library)
    held = await older(library)
    assert (first.stale, held) == (False, first)
    liked = ids(first)[0]
    await library.did("ada", liked)
    stale = await older(library)
    assert stale.stale
    stale.ClearField("stale")
    assert stale == first
    after = await newer(library, first)
    assert not after.stale
    assert liked not in ids(after)
    assert await library.recommend("ada") == after


async def hide(service: Service) -> None:
    await service.hide("b10")


async def change_settings(service: Service) -> None:
    request = admin_pb2.UpdateTenantRequest()
    request.tenant.tenant_id = "a"
    request.tenant.settings.source_weights["popular"] = 2.0
    request.update_mask.paths.append("settings.source_weights")
    await service.call("UpdateTenant", request, tenant=None)


@pytest.mark.parametrize("change", [hide, change_settings])
async def test_older_answer_is_made_anew_after_a_change_of_the_tenant(
    library: Service, change: Callable[[Service], Awaitable[None]]
) -> None:
    first = await older(library)
    await change(library)
    assert (await older(library)).stale
    assert not (await newer(library, first)).stale


async def test_who_allows_nothing_gets_the_new_answer_beside_one_who_does(
    library: Service,
) -> None:
    for fields in ({}, {"max_staleness": Duration()}):
        first = await older(library)
        await library.recommend("ada", **fields)
        liked = ids(first)[0]
        await library.did("ada", liked)
        fresh = await library.recommend("ada", **fields)
        assert not fresh.stale
        assert liked not in ids(fresh)
        await newer(library, first)


async def test_answer_older_than_allowed_is_made_anew_at_once(library: Service) -> None:
    allowed = Duration(nanos=300_000_000)
    first = await library.recommend("ada", max_staleness=allowed)
    liked = ids(first)[0]
    await library.did("ada", liked)
    await asyncio.sleep(0.35)
    fresh = await library.recommend("ada", max_staleness=allowed)
    assert not fresh.stale
    assert liked not in ids(fresh)


async def test_batch_gives_older_answers_to_those_who_allow_them(library: Service) -> None:
    request = recommendation_pb2.BatchRecommendRequest()
    request.requests.add(user_id="ada", max_staleness=_A_MINUTE)
    request.requests.add(user_id="ada")

    async def ask(service: Service) -> Any:
        results = (await service.call("BatchRecommend", request)).results
        assert not results[1].response.stale
        return results[0].response

    first = await ask(library)
    liked = ids(first)[0]
    await library.did("ada", liked)
    assert (await ask(library)).stale
    after = await newer(library, first, ask)
    assert liked not in ids(after)


async def test_staleness_beside_a_freshness_token_is_refused(library: Service) -> None:
    token = (await library.did("ada", "b00")).freshness_token
    request = recommendation_pb2.RecommendRequest(
        user_id="ada", at_least_as_fresh=token, max_staleness=_A_MINUTE
    )
    refusal = await library.refused("Recommend", request)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["max_staleness"])
    await library.recommend("ada", at_least_as_fresh=token, max_staleness=Duration())


async def test_one_making_serves_all_who_ask_meanwhile(library: Service) -> None:
    first = await older(library)
    await library.did("ada", ids(first)[0])
    before = renewals()
    answers = await asyncio.gather(*(older(library) for _ in range(32)))
    after = await newer(library, first)
    known = {first.recommendation_id, after.recommendation_id}
    assert {answer.recommendation_id for answer in answers} <= known
    assert renewals() - before == 1


@asynccontextmanager
async def two_workers(library: Service, settings: Any) -> AsyncIterator[tuple[Service, Service]]:
    """Two workers of one host, in one process here: they share nothing but the slots' file."""
    async with running(settings.model_copy(update={"port": 0}), make_tenant=False) as other:
        yield library, other


async def test_erased_users_get_no_older_answer_on_any_worker(
    library: Service, settings: Any
) -> None:
    async with two_workers(library, settings) as workers:
        await library.did("ada", "b00")
        for number in range(5):
            firsts = [await older(worker) for worker in workers]
            await library.call("EraseUser", privacy_pb2.EraseUserRequest(user_id="ada"))
            for first, worker in zip(firsts, workers, strict=True):
                after = await older(worker)
                assert not after.stale, number
                assert after.recommendation_id != first.recommendation_id


async def test_deleted_tenant_gets_no_older_answer_on_any_worker(
    library: Service, settings: Any
) -> None:
    async with two_workers(library, settings) as workers:
        for worker in workers:
            await older(worker)
        await library.call("DeleteTenant", admin_pb2.DeleteTenantRequest(tenant_id="a"), None)
        request = recommendation_pb2.RecommendRequest(user_id="ada", max_staleness=_A_MINUTE)
        for worker in workers:
            assert (await worker.refused("Recommend", request)).code == "NOT_FOUND"


@pytest.mark.parametrize("whose", [{"all": True}, {"user_id": "ada"}])
async def test_invalidation_ends_older_answers(library: Service, whose: dict[str, Any]) -> None:
    await library.did("ada", "b00")
    await older(library)
    request = admin_pb2.InvalidateCacheRequest(tenant_id="a", **whose)
    await library.call("InvalidateCache", request, None)
    assert not (await older(library)).stale


async def test_older_answers_are_for_those_who_may_have_them(library: Service) -> None:
    await library.make_tenant("b")
    draft = KeyDraft("a", "", ("recommend:read",), None)
    made, reader = await library.deps.keys.make(draft, ANONYMOUS)
    stranger = await make_key(library, "b", "recommend:read")
    await library.deps.key_ring.look()
    request = recommendation_pb2.RecommendRequest(user_id="ada", max_staleness=_A_MINUTE)
    path, raw = "/penchant.v1.RecommendationService/Recommend", request.SerializeToString()

    async def ask(key: str) -> Any:
        return await library.recommendation.Recommend(request, metadata=metadata_of(key))

    await ask(reader)
    library.deps.database.slots.tell("a")
    assert (await ask(reader)).stale
    library.deps.database.slots.tell("a")
    refusal = await refused(library, path, raw, metadata_of(stranger, "a"))
    assert refusal.reason == "TENANT_MISMATCH"
    assert not (await ask(stranger)).items
    await library.deps.keys.revoke("a", made.key_id, ANONYMOUS)
    await library.deps.key_ring.look()
    refusal = await refused(library, path, raw, metadata_of(reader))
    assert refusal.reason == "INVALID_CREDENTIALS"


async def test_stop_ends_what_is_being_made_anew(
    library: Service, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(30):
        async with running(settings.model_copy(update={"port": 0}), make_tenant=False) as other:
            first = await older(other)
            await library.did("ada", ids(first)[0])

            async def hang(*args: Any, **fields: Any) -> Any:
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            monkeypatch.setattr(other.deps.recommender, "recommend", hang)
            assert (await older(other)).stale
            await begun.wait()
        assert ended.is_set()
