"""Recommend: versions and profile, cache, candidates, ranking; a hit asks PostgreSQL once."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TypedDict

import msgpack

from engine.answer_log import LoggedAnswer
from engine.answer_writer import NOT_LOGGED, AnswerWriter
from engine.answers import Answer, Item, pack_answer, unpack_answer
from engine.cache_keys import answers_of_user
from engine.candidates import Candidates
from engine.gathering import Gatherer
from engine.inputs import NEIGHBOURS_OF, candidate_query, make_inputs, phase_of
from engine.known_situations import KnownSituations
from engine.last_good import LastGood
from engine.offers import ModelOffers, offers_of
from engine.popular import PopularLists
from engine.ranking import Ranking, fill_up_weights, ranking_off_loop, source_weights
from engine.ready import Ready, Render, pack_ready, unpack_ready
from engine.related import relate
from engine.requests import RecommendQuery
from engine.shelf import LoadedModel, ModelShelf
from engine.single_flight import SingleFlight
from engine.sources import MODEL, NEWEST, SOURCES, Inputs
from engine.tenants import TenantDirectory
from engine.turns import Turns
from engine.versions import KnownVersions
from storage.entities import EntityKey
from storage.exceptions import Unavailable
from storage.redis_cache import RedisCache
from storage.situations import Situation, UserContext, Versions
from storage.tenants import Tenant
from storage.users import UserStore
from storage.vector_store import CandidateQuery, VectorStore

MAX_LIST = 500
"""Items of a list over all its pages."""

_LAYOUT = 6  # of cached answers; part of the key
_HISTORY = 200  # interactions that the sources look at
_HISTORY_OF_MODEL = 3000  # a model takes in more, at little cost
_OFFERED = 4  # times the page, by a model: hidden and seen ones drop out in PostgreSQL
_RELATED = 4  # times the candidates that are wanted, of item_to_item: hidden ones drop out
_NARROWED = 100_000  # where a filter or a type may drop most of them: all that there are
_OFFERED_FILTERED = 2000  # where a filter or a type may drop most of them
_NONE = Candidates.of(())


class _Wanted(TypedDict):
    """What an answer's start is to hold, as `UserStore.situation` has it."""

    looked_at: Sequence[EntityKey]
    interactions: int
    neighbours_of: int


class Recommender:
    """Answers Recommend for one tenant a call.

    Args:
        gatherer: of candidates.
        turns: in which answers are worked on.
        shelf: the trained models.
        cache: None works without one.
        last_good: what is answered while PostgreSQL is away; None: nothing.
        answer_log: where past answers are kept; None: nowhere.
        situations: what is remembered of users; None: nothing.
        cold_start_interactions: below that many interactions a user is cold.
        cache_ttl_secs: how long an answer may be taken from the cache while nothing it depends on
            has changed (availability windows and other users' behaviour show after that).
    """

    def __init__(
        self,
        *,
        tenants: TenantDirectory,
        users: UserStore,
        vectors: VectorStore,
        gatherer: Gatherer,
        turns: Turns,
        shelf: ModelShelf,
        cache: RedisCache | None,
        last_good: LastGood | None = None,
        answer_log: AnswerWriter | None = None,
        situations: KnownSituations | None = None,
        cold_start_interactions: int = 5,
        cache_ttl_secs: float = 60.0,
    ) -> None:
        self._tenants = tenants
        self._users = users
        self._versions = KnownVersions(users)
        self._situations = situations if situations is not None else KnownSituations(0)
        self._turns = turns
        self._vectors = vectors
        self._gatherer = gatherer
        self._shelf = shelf
        self._cache = cache
        self._cold_start = cold_start_interactions
        self._cache_ttl = cache_ttl_secs
        self._last_good = last_good if last_good is not None else LastGood(0)
        self._popular = PopularLists(tenants, vectors, self._last_good)
        self._answer_log = answer_log
        self._under_way: SingleFlight[Ready] = SingleFlight()

    async def recommend(
        self, tenant: Tenant, query: RecommendQuery, render: Render, *, at_least_as_fresh: int = 0
    ) -> Ready:
        """The first page of a list and, in `rest`, the pages after it, rendered.

        Args:
            render: of answers to this query; what it makes is cached.
            at_least_as_fresh: a transaction that the answer must know of; 0: none.

        Raises:
            Unavailable: PostgreSQL is away, and nothing that was answered before fits.
        """
        try:
            ready = await self._tenants.run(
                tenant, lambda t: self._recommend(t, query, render, at_least_as_fresh)
            )
        except Unavailable:
            degraded = self._last_good.answer(
                tenant.tenant_no, query, at_least_as_fresh=at_least_as_fresh
            )
            if degraded is None:
                raise
            return Ready(
                render(degraded), b"", time.time(), for_once=True,
                transaction_id=degraded.transaction_id,
            )  # fmt: skip
        if ready.has_items:
            self._popular.asked(tenant, query.entity_type)
        return ready

    async def page(self, tenant: Tenant, items: Sequence[Item]) -> tuple[Item, ...]:
        """Items of a later page as they look now, without those that may no longer be shown."""
        numbers = [item.entity_no for item in items]
        shown = await self._tenants.run(tenant, lambda t: self._vectors.shown(t, numbers))
        return tuple(
            replace(
                item,
                entity_type=found.entity_type,
                entity_id=found.entity_id,
                attributes=found.attributes,
            )
            for item in items
            if (found := shown.get(item.entity_no)) is not None
        )

    async def _recommend(
        self, tenant: Tenant, query: RecommendQuery, render: Render, at_least_as_fresh: int
    ) -> Ready:
        versions = self._versions.get(tenant, query.user_id, at_least_as_fresh)
        situation = None
        if versions is None:
            for_model = self._shelf.expects(tenant)
            stamp = self._users.stamp(tenant.tenant_id, query.user_id)
            # All at once: what has changed since the last time has most likely no answer in Redis.
            situation = await self._situation(tenant, query, for_model)
            versions = situation.versions
            self._versions.keep(tenant, query.user_id, versions, stamp)
            self._keep_situation(tenant, query, versions, situation, for_model)
        model = await self._model(tenant, versions, query)
        # Asked here: by the time that the answer is made, a newer model than its own may serve.
        is_current = self._shelf.is_current(tenant, versions.model_revision)
        if situation is not None and self._shelf.expects(tenant) is not (model is not None):
            situation = None  # as long as the other needs it
        key = self._key(tenant, versions, model, query)
        packed = await self._cache.get(key) if self._cache is not None else None
        ready = unpack_ready(packed) if packed is not None else None
        if ready is not None and query.explain:
            ready = _as_cached(ready, render)
        if ready is None:
            ready = await self._under_way.do(
                key,
                lambda: self._compute_and_keep(
                    key, tenant, versions, model, query, render, situation
                ),
            )
        self._last_good.keep(tenant.tenant_no, query, ready.packed, versions.transaction_id)
        return ready._replace(
            transaction_id=versions.transaction_id,
            for_once=ready.for_once
            # Which version is the latest is in no slot.
            or query.model_version is not None
            or not is_current,
        )

    def _keep_situation(
        self,
        tenant: Tenant,
        query: RecommendQuery,
        versions: Versions,
        situation: Situation,
        for_model: bool,
    ) -> None:
        if not query.context:
            self._situations.keep(tenant, query.user_id, versions, situation, for_model=for_model)

    async def _situation(self, tenant: Tenant, query: RecommendQuery, for_model: bool) -> Situation:
        wanted = _Wanted(
            looked_at=query.context,
            interactions=_HISTORY_OF_MODEL if for_model else _HISTORY,
            # A model that has anything to say needs none.
            neighbours_of=0 if for_model else NEIGHBOURS_OF,
        )
        recalled = self._gatherer.recalled(tenant)
        if recalled is not None:
            situation = await self._users.recalled_situation(
                tenant, query.user_id, recalled, **wanted
            )
            if situation is not None:
                return situation
            self._gatherer.surprised(tenant)
        return await self._users.situation(tenant, query.user_id, **wanted)

    async def _model(
        self, tenant: Tenant, versions: Versions, query: RecommendQuery
    ) -> LoadedModel | None:
        if query.model_version is not None:
            return await self._shelf.named(tenant, *query.model_version)
        return await self._shelf.serving(tenant, versions.model_revision)

    @staticmethod
    def _key(
        tenant: Tenant, versions: Versions, model: LoadedModel | None, query: RecommendQuery
    ) -> str:
        depends_on = (
            _LAYOUT,
            tenant.tenant_no,
            # Tells tenants of two databases apart that share one Redis.
            tenant.created_at.timestamp(),
            tenant.version,
            versions.catalogue_revision,
            versions.revision,
            # What really answers, which may be older than the newest promotion for a moment.
            (model.revision, model.label) if model else None,
            query.page_size,
        )
        digest = blake2b(msgpack.packb(depends_on), digest_size=20)
        digest.update(query.request_hash)
        return answers_of_user(tenant.tenant_no, query.user_id) + digest.hexdigest()

    async def _compute_and_keep(
        self,
        key: str,
        tenant: Tenant,
        versions: Versions,
        model: LoadedModel | None,
        query: RecommendQuery,
        render: Render,
        situation: Situation | None,
    ) -> Ready:
        for_model = model is not None
        if situation is None and not query.context:
            situation = self._situations.get(tenant, query.user_id, versions, for_model=for_model)
        if situation is None:
            situation = await self._situation(tenant, query, for_model)
            self._keep_situation(tenant, query, versions, situation, for_model)
        answer, body = await self._compute(tenant, versions, model, query, render, situation)
        ready = Ready(
            body, pack_answer(answer), time.time(), for_once=bool(answer.degraded),
            has_items=bool(answer.items),
        )  # fmt: skip
        # Who asks for a record must find it under the id that a cached answer brings, too.
        if self._cache is not None and NOT_LOGGED not in answer.degraded:
            self._cache.keep(key, pack_ready(ready), self._cache_ttl)
        return ready

    async def _compute(
        self,
        tenant: Tenant,
        versions: Versions,
        model: LoadedModel | None,
        query: RecommendQuery,
        render: Render,
        situation: Situation,
    ) -> tuple[Answer, bytes]:
        """An answer, and what `render` makes of it."""
        user = situation.user
        phase = phase_of(user, self._cold_start)
        inputs = make_inputs(tenant, user, situation.looked_at, phase)
        offers = await _offers(model, inputs, user, query) if model else None
        if offers is not None:
            inputs = inputs._replace(offers=True, because=offers.because)
        weights = source_weights(inputs, tenant.settings.source_weights)
        asked = frozenset(
            s.name for s in SOURCES if s is not NEWEST and s.asks(inputs) and weights[s.name] > 0
        )
        wanted = candidate_query(inputs, query, asked, offers)._replace(seen=situation.seen)
        if not model:
            narrowed = query.filter or query.entity_type or query.exclude
            most = _NARROWED if narrowed else _RELATED * wanted.limit + len(user.history)
            related = await self._turns.do(
                lambda: relate(inputs.anchors[:NEIGHBOURS_OF], situation.neighbours, most)
            )
            wanted = wanted._replace(related=related)
        candidates = _NONE
        if asked:
            candidates = await self._gatherer.candidates(tenant, wanted, situation)
        if offers is not None and len(candidates) < query.page_size:
            weights = fill_up_weights(weights, inputs)
            more = frozenset(s.name for s in SOURCES if s is not NEWEST and s.asks(inputs))
            if more - asked:
                found = await self._vectors.candidates(tenant, wanted._replace(sources=more))
                candidates = Candidates.of(found)
        if len(candidates) < query.page_size:
            candidates = await self._fill_up(tenant, wanted, candidates)
        if not len(candidates) and wanted.seen_by is not None:
            # Who has seen everything gets something known rather than nothing.
            wanted = wanted._replace(seen_by=None)
            candidates = await self._fill_up(tenant, wanted, candidates)
        counts = candidates.by_source()

        def answer_of(ranking: Ranking) -> tuple[Ranking, Answer, bytes]:
            rest = ranking.columns(query.page_size, MAX_LIST).pack()
            answer = Answer(
                items=tuple(ranking.items(0, query.page_size)),
                rest=rest,
                recommendation_id=uuid.uuid4().hex,
                phase=phase,
                interaction_count=user.interaction_count,
                candidate_counts=counts,
                model_versions=(
                    (offers.label,) if offers is not None and counts.get(MODEL.name) else ()
                ),
            )
            return ranking, answer, render(answer)

        ranking, answer, body = await ranking_off_loop(
            candidates, inputs, weights, query, self._turns, then=answer_of
        )
        if self._answer_log is None or not self._answer_log.wants(query.record):
            return answer, body
        logged = LoggedAnswer(
            answered_at=datetime.now(UTC),
            query=query,
            answer=replace(
                answer, items=tuple(ranking.items(0, max(query.page_size, MAX_LIST))), rest=b""
            ),
            candidates=candidates.objects(),
            inputs=inputs,
            weights=weights,
            seen_excluded=wanted.seen_by is not None,
            settings={
                "tenant_version": tenant.version,
                "catalogue_revision": versions.catalogue_revision,
                "source_weights_of_tenant": dict(tenant.settings.source_weights),
                "cold_start_interactions": self._cold_start,
            },
        )
        if await self._answer_log.log(tenant.tenant_id, logged):
            return answer, body
        answer = replace(answer, degraded=(*answer.degraded, NOT_LOGGED))
        return answer, render(answer)

    async def _fill_up(
        self, tenant: Tenant, wanted: CandidateQuery, candidates: Candidates
    ) -> Candidates:
        known = set(candidates.numbers.tolist())
        newest = wanted._replace(sources=frozenset({NEWEST.name}))
        more = await self._vectors.candidates(tenant, newest)
        return Candidates.of(candidates.objects() + [c for c in more if c.entity_no not in known])


def _as_cached(ready: Ready, render: Render) -> Ready | None:
    """An answer from the cache that tells so; None where it cannot be read."""
    answer = unpack_answer(ready.packed)
    return None if answer is None else ready._replace(body=render(answer))


async def _offers(
    model: LoadedModel, inputs: Inputs, user: UserContext, query: RecommendQuery
) -> ModelOffers | None:
    narrowed = query.filter is not None or query.entity_type or query.exclude
    return await offers_of(
        model.label,
        model.model,
        [anchor for anchor in inputs.anchors if anchor.context],
        user.history,
        limit=_OFFERED_FILTERED if narrowed else min(1000, max(100, _OFFERED * query.page_size)),
    )
