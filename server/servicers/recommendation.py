"""RecommendationService."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from penchant.v1 import recommendation_pb2 as pb
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceServicer

from engine.answer_replay import AnswerArchive, explain, replay
from engine.answers import Answer, pack_rest
from engine.catalogue import check_key
from engine.filters.compiler import compile_filter
from engine.freshness import check_freshness, encode_freshness
from engine.identifiers import check_id, check_page_size
from engine.recommender import Recommender
from engine.requests import DEFAULT_PAGE_SIZE, RecommendQuery, check_finite
from engine.similar import SimilarityFinder
from engine.tenants import TenantDirectory
from server.call import current_call, tenant_of_call
from server.convert import embedded, fill_timestamp
from server.errors import row_error
from server.logged_answers import render_logged, render_outcome, render_replay
from server.paging import hash_of, items_of, items_token, users_of, users_token
from server.recommendations import (
    keys_of,
    mask_of,
    parse_recommend,
    parse_rerank,
    render_answer,
    render_items,
    staleness_of,
)
from server.renewals import Renewals
from server.wire_cache import Key, WireCache
from storage.exceptions import InvalidArgument, PenchantError
from storage.tenants import Tenant
from storage.users import ScoredUserRow

_MAX_BATCH = 100
_AT_ONCE = 8
_MAX_USERS = 1000
_RESULTS = pb.BatchRecommendResponse.DESCRIPTOR.fields_by_name["results"].number
_FRESHNESS = pb.RecommendResponse.DESCRIPTOR.fields_by_name["freshness_token"].number
_RESPONSE = pb.BatchRecommendResult.DESCRIPTOR.fields_by_name["response"].number
_Context = grpc.aio.ServicerContext[Any, Any]
_R = TypeVar("_R", pb.SimilarUsersResponse, pb.RecommendUsersResponse)


class RecommendationServicer(RecommendationServiceServicer):
    """Answers what to recommend, and why."""

    def __init__(
        self,
        tenants: TenantDirectory,
        recommender: Recommender,
        finder: SimilarityFinder,
        answers: AnswerArchive,
        wire: WireCache,
        renewals: Renewals,
    ) -> None:
        """Keeps the parts.

        Args:
            wire: where ready answers are kept.
            renewals: of those that were given though they do not hold; made here.
        """
        renewals.made_by(self._make_anew)
        self._tenants = tenants
        self._recommender = recommender
        self._finder = finder
        self._answers = answers
        self._wire = wire

    async def Recommend(  # type: ignore[override]  # in bytes: what is kept is what is sent
        self, request: pb.RecommendRequest, context: _Context
    ) -> bytes:
        """Entities for a user, a session or a context."""
        return await self._recommend(tenant_of_call(), request, current_call().raw)

    async def _make_anew(self, key: Key) -> None:
        """An answer of the wire cache, as the call that comes next would have it made."""
        tenant_id, raw = key
        tenant = await self._tenants.get(tenant_id)
        await self._recommend(tenant, pb.RecommendRequest.FromString(raw), raw)

    async def _recommend(
        self, tenant: Tenant, request: pb.RecommendRequest, raw: bytes | None
    ) -> bytes:
        asked = request.SerializeToString() if raw is None else raw
        query = parse_recommend(request, tenant, asked)
        fresh = check_freshness(tenant, request.at_least_as_fresh)
        stale_secs = staleness_of(request)
        # Before anything is read: a change that comes meanwhile makes the answer unfit to be kept.
        stamp = self._wire.stamp(tenant.tenant_id, query.user_id)
        if query.page_token:
            later = await self._later_page(tenant, query, "recommend")
            return _rendered(request, query, later)
        ready = await self._recommender.recommend(
            tenant,
            query,
            lambda answer: _rendered(request, query, answer),
            at_least_as_fresh=fresh,
        )
        token = encode_freshness(tenant, ready.transaction_id)
        response = ready.body + embedded(_FRESHNESS, token.encode()) if token else ready.body
        once = query.record or query.explain or ready.for_once
        if raw is not None and not once:
            key, age = (tenant.tenant_id, raw), max(0.0, time.time() - ready.made_at)
            self._wire.put(key, response, stamp, age_secs=age, stale_secs=stale_secs)
        return response

    async def _later_page(self, tenant: Tenant, query: RecommendQuery, kind: str) -> Answer:
        recommendation_id, left = items_of(query.page_token, kind, query.request_hash)
        shown = await self._recommender.page(tenant, left[: query.page_size].items())
        rest = left[query.page_size :].pack()
        return Answer(items=shown, rest=rest, recommendation_id=recommendation_id)

    async def BatchRecommend(  # type: ignore[override]  # as Recommend
        self, request: pb.BatchRecommendRequest, context: _Context
    ) -> bytes:
        """Many Recommend requests, some at a time."""
        if not 1 <= len(request.requests) <= _MAX_BATCH:
            raise InvalidArgument.field("requests", f"must have 1 to {_MAX_BATCH} entries")
        current_call().charge(len(request.requests) - 1)
        tenant = tenant_of_call()
        free = asyncio.Semaphore(_AT_ONCE)

        async def answer(index: int, one: pb.RecommendRequest, raw: bytes) -> bytes:
            async with free:
                try:
                    return embedded(_RESPONSE, await self._recommend(tenant, one, raw))
                except PenchantError as error:
                    failed = pb.BatchRecommendResult(error=row_error(index, error))
                    return failed.SerializeToString()

        results: list[bytes | None] = []
        missing: list[int] = []
        raws = [one.SerializeToString(deterministic=True) for one in request.requests]
        for index, raw in enumerate(raws):
            found = self._wire.get((tenant.tenant_id, raw))
            results.append(None if found is None else embedded(_RESPONSE, found))
            if found is None:
                missing.append(index)
        made = await asyncio.gather(*(answer(i, request.requests[i], raws[i]) for i in missing))
        for index, result in zip(missing, made, strict=True):
            results[index] = result
        return b"".join(embedded(_RESULTS, result or b"") for result in results)

    async def SimilarEntities(
        self, request: pb.SimilarEntitiesRequest, context: _Context
    ) -> pb.SimilarEntitiesResponse:
        """Entities like a given one."""
        tenant = tenant_of_call()
        key = check_key(request.entity.entity_type, request.entity.entity_id)
        query = RecommendQuery(
            entity_type=check_id(request.entity_type, "entity_type") if request.entity_type else "",
            page_size=check_page_size(request.page_size, DEFAULT_PAGE_SIZE),
            page_token=request.page_token,
            filter=compile_filter(request.filter),
            exclude=keys_of(request.exclude, "exclude"),
            min_score=check_finite(request.min_score, "min_score")
            if request.HasField("min_score")
            else None,
            explain=request.explain,
            request_hash=hash_of(request, tenant.tenant_id),
        )
        if query.page_token:
            answer = await self._later_page(tenant, query, "similar")
        else:
            answer = await self._finder.similar_entities(tenant, key, query)
        response = pb.SimilarEntitiesResponse(
            recommendation_id=answer.recommendation_id, degraded=answer.degraded
        )
        render_items(answer.items, response.items, mask_of(request))
        response.next_page_token = items_token(
            "similar", query.request_hash, answer.recommendation_id, answer.rest
        )
        return response

    async def SimilarUsers(
        self, request: pb.SimilarUsersRequest, context: _Context
    ) -> pb.SimilarUsersResponse:
        """Users whose preferences point the same way."""
        tenant = tenant_of_call()
        user_id = check_id(request.user_id, "user_id")
        limits = _limits(request)
        hashed = hash_of(request, tenant.tenant_id)
        users = (
            users_of(request.page_token, "users", hashed)
            if request.page_token
            else await self._finder.similar_users(tenant, user_id, _MAX_USERS)
        )
        return _page_of_users(users, limits, "users", hashed, pb.SimilarUsersResponse)

    async def RecommendUsers(
        self, request: pb.RecommendUsersRequest, context: _Context
    ) -> pb.RecommendUsersResponse:
        """An audience for an entity."""
        tenant = tenant_of_call()
        key = check_key(request.entity.entity_type, request.entity.entity_id)
        limits = _limits(request)
        hashed = hash_of(request, tenant.tenant_id)
        users = (
            users_of(request.page_token, "audience", hashed)
            if request.page_token
            else await self._finder.audience(
                tenant, key, include_seen=request.include_seen, limit=_MAX_USERS
            )
        )
        return _page_of_users(users, limits, "audience", hashed, pb.RecommendUsersResponse)

    async def Trending(self, request: pb.TrendingRequest, context: _Context) -> pb.TrendingResponse:
        """What gathered the most interactions lately."""
        tenant = tenant_of_call()
        query = RecommendQuery(
            entity_type=check_id(request.entity_type, "entity_type") if request.entity_type else "",
            page_size=check_page_size(request.page_size, DEFAULT_PAGE_SIZE),
            filter=compile_filter(request.filter),
            request_hash=hash_of(request, tenant.tenant_id),
        )
        size, hashed = query.page_size, query.request_hash
        response = pb.TrendingResponse()
        if request.page_token:
            _, left = items_of(request.page_token, "trending", hashed)
            page = await self._recommender.page(tenant, left[:size].items())
            rest = left[size:].pack()
        else:
            answer = await self._finder.trending(tenant, query)
            response.degraded.extend(answer.degraded)
            page, rest = answer.items[:size], pack_rest(answer.items[size:])
            if answer.window is not None:
                fill_timestamp(response.window_start, answer.window[0])
                fill_timestamp(response.window_end, answer.window[1])
        render_items(page, response.items, mask_of(request))
        response.next_page_token = items_token("trending", hashed, "", rest)
        return response

    async def Rerank(self, request: pb.RerankRequest, context: _Context) -> pb.RerankResponse:
        """The caller's own list in the order of a user's preference."""
        keys, query = parse_rerank(request)
        answer = await self._finder.rerank(tenant_of_call(), keys, query)
        response = pb.RerankResponse(recommendation_id=answer.recommendation_id)
        render_items(answer.items, response.items, mask_of(request))
        for entity_type, entity_id in answer.missing:
            response.missing.add(entity_type=entity_type, entity_id=entity_id)
        return response

    async def GetRecommendation(
        self, request: pb.GetRecommendationRequest, context: _Context
    ) -> pb.GetRecommendationResponse:
        """A past answer with what it was made from."""
        kept = await self._answers.get(tenant_of_call(), request.recommendation_id)
        response = pb.GetRecommendationResponse()
        await asyncio.to_thread(render_logged, kept, response.recommendation)
        return response

    async def ReplayRecommendation(
        self, request: pb.ReplayRecommendationRequest, context: _Context
    ) -> pb.ReplayRecommendationResponse:
        """A past answer made anew from what was kept of it."""
        kept = await self._answers.get(tenant_of_call(), request.recommendation_id)
        return render_replay(await asyncio.to_thread(replay, kept.logged))

    async def Explain(self, request: pb.ExplainRequest, context: _Context) -> pb.ExplainResponse:
        """Why an entity stands in a past answer, or does not."""
        key = check_key(request.entity.entity_type, request.entity.entity_id)
        kept = await self._answers.get(tenant_of_call(), request.recommendation_id)
        return render_outcome(await asyncio.to_thread(explain, kept.logged, key))


def _rendered(request: pb.RecommendRequest, query: RecommendQuery, answer: Answer) -> bytes:
    """A response in bytes, without what differs between calls: its freshness."""
    response = render_answer(answer, request)
    response.next_page_token = items_token(
        "recommend", query.request_hash, answer.recommendation_id, answer.rest
    )
    return response.SerializeToString()


def _limits(request: pb.SimilarUsersRequest | pb.RecommendUsersRequest) -> tuple[int, float]:
    """Page size and least score, checked."""
    size = check_page_size(request.page_size, DEFAULT_PAGE_SIZE)
    least = check_finite(request.min_score, "min_score")
    return size, least if request.HasField("min_score") else -math.inf


def _page_of_users(
    users: list[ScoredUserRow],
    limits: tuple[int, float],
    kind: str,
    hashed: bytes,
    response_type: Callable[[], _R],
) -> _R:
    size, least = limits
    good = [user for user in users if user.score >= least]
    response = response_type()
    for user in good[:size]:
        response.users.add(
            user_id=user.user_id, score=user.score, interaction_count=user.interaction_count
        )
    response.next_page_token = users_token(kind, hashed, good[size:])
    return response
