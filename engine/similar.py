"""The smaller questions: similar entities and users, an audience, what trends, a given list."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from engine.answers import Answer, Item, Reason, pack_answer, pack_rest
from engine.candidates import Candidates
from engine.catalogue import not_found
from engine.inputs import candidate_query, make_inputs, phase_of
from engine.last_good import LastGood
from engine.ranking import rank_off_loop, source_weights, unit
from engine.recommender import MAX_LIST
from engine.requests import RecommendQuery
from engine.sources import Anchor, Inputs
from engine.tenants import TenantDirectory
from engine.turns import Turns
from storage.entities import EntityKey, EntityRow, EntityStore
from storage.exceptions import FailedPrecondition, NotFound, Unavailable
from storage.tenants import Tenant
from storage.users import ScoredUserRow, UserStore
from storage.vector_store import CandidateQuery, VectorStore

_SIMILAR_SOURCES = frozenset({"content", "item_to_item"})


@dataclass(frozen=True, slots=True)
class TrendingAnswer:
    """What trends, best first, scores relative to the first; and the window that was counted.

    `degraded`: what could not take part; then there is no window.
    """

    items: tuple[Item, ...]
    window: tuple[datetime, datetime] | None
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RerankedList:
    """The caller's entities, best first, and those that cannot be shown."""

    items: tuple[Item, ...]
    missing: tuple[EntityKey, ...]
    recommendation_id: str


class SimilarityFinder:
    """Answers what needs no user profile or only compares vectors, for one tenant a call.

    While PostgreSQL is away, what is similar and what trends is answered as it last was.
    """

    def __init__(
        self,
        *,
        tenants: TenantDirectory,
        entities: EntityStore,
        users: UserStore,
        vectors: VectorStore,
        turns: Turns,
        last_good: LastGood | None = None,
        cold_start_interactions: int = 5,
    ) -> None:
        self._last_good = last_good if last_good is not None else LastGood(0)
        self._tenants = tenants
        self._entities = entities
        self._users = users
        self._vectors = vectors
        self._turns = turns
        self._cold_start = cold_start_interactions

    async def similar_entities(
        self, tenant: Tenant, key: EntityKey, query: RecommendQuery
    ) -> Answer:
        """Entities like a given one, by content and by co-interaction.

        Raises:
            NotFound: ENTITY_NOT_FOUND.
            Unavailable: PostgreSQL is away, and this was not answered before.
        """
        try:
            answer = await self._tenants.run(tenant, lambda t: self._similar(t, key, query))
        except Unavailable:
            degraded = self._last_good.same(tenant.tenant_no, query)
            if degraded is None:
                raise
            return degraded
        self._last_good.keep(tenant.tenant_no, query, pack_answer(replace(answer, rest=b"")), 0)
        return answer

    async def _similar(self, tenant: Tenant, key: EntityKey, query: RecommendQuery) -> Answer:
        row = await self._entity(tenant, key)
        vector = None if row.feature_vector is None else unit(row.feature_vector)
        anchor = Anchor(row.entity_no, row.entity_type, row.entity_id, 1.0, vector)
        inputs = Inputs("warm", vector, None, (anchor,))
        asked = query._replace(
            entity_type=query.entity_type or row.entity_type, exclude=(*query.exclude, key)
        )
        candidates = await self._vectors.candidates(
            tenant, candidate_query(inputs, asked, _SIMILAR_SOURCES)
        )
        weights = source_weights(inputs, tenant.settings.source_weights)
        items = await rank_off_loop(Candidates.of(candidates), inputs, weights, asked, self._turns)
        return Answer(
            items=tuple(items[: query.page_size]),
            rest=pack_rest(items[query.page_size : MAX_LIST]),
            recommendation_id=uuid.uuid4().hex,
        )

    async def similar_users(self, tenant: Tenant, user_id: str, limit: int) -> list[ScoredUserRow]:
        """Users whose preference vectors point the same way, best first.

        For a user without one (no entity they met has a feature vector) those of the same learned
        segment, by the factors that a `clusters` model gave them.

        Raises:
            NotFound: USER_NOT_FOUND.
            FailedPrecondition: the user has neither a preference vector nor a segment.
        """
        found = await self._tenants.run(tenant, lambda t: self._users.preference(t, user_id))
        if found is None:
            raise NotFound(f"There is no user {user_id!r}.", reason="USER_NOT_FOUND")
        accumulator, _ = found
        if accumulator is None or not np.any(accumulator):
            alike = await self._tenants.run(
                tenant, lambda t: self._users.same_segment(t, user_id, limit)
            )
            if alike:
                return alike
            raise FailedPrecondition(
                f"The user {user_id!r} has no preference vector: "
                "no entity they met has a feature vector. Train a clusters model to compare users "
                "by what they have in common."
            )
        vector = unit(accumulator)
        return await self._tenants.run(
            tenant, lambda t: self._users.nearest(t, vector, without_user=user_id, limit=limit)
        )

    async def audience(
        self, tenant: Tenant, key: EntityKey, *, include_seen: bool, limit: int
    ) -> list[ScoredUserRow]:
        """The users most likely to care for an entity, best first.

        Raises:
            NotFound: ENTITY_NOT_FOUND.
            FailedPrecondition: the entity has no feature vector.
        """
        row = await self._tenants.run(tenant, lambda t: self._entity(t, key))
        if row.feature_vector is None:
            raise FailedPrecondition(
                f"The entity {key[1]!r} has no feature vector: give it attributes or a vector."
            )
        vector = unit(row.feature_vector)
        return await self._tenants.run(
            tenant,
            lambda t: self._users.nearest(
                t, vector, without_seen=None if include_seen else key, limit=limit
            ),
        )

    async def trending(self, tenant: Tenant, query: RecommendQuery) -> TrendingAnswer:
        """What gathered the most interactions in the tenant's window, over all pages.

        Raises:
            Unavailable: PostgreSQL is away, and this was not answered before.
        """
        try:
            answer = await self._trending(tenant, query)
        except Unavailable:
            degraded = self._last_good.same(tenant.tenant_no, query)
            if degraded is None:
                raise
            return TrendingAnswer(degraded.items, None, degraded.degraded)
        page = Answer(items=answer.items[: query.page_size])
        self._last_good.keep(tenant.tenant_no, query, pack_answer(page), 0)
        return answer

    async def _trending(self, tenant: Tenant, query: RecommendQuery) -> TrendingAnswer:
        wanted = CandidateQuery(
            sources=frozenset({"trending"}),
            limit=max(query.page_size + 1, MAX_LIST),
            entity_type=query.entity_type or None,
            filter_path=query.filter.path if query.filter else None,
            filter_variables=query.filter.variables if query.filter else None,
        )
        candidates = await self._tenants.run(tenant, lambda t: self._vectors.candidates(t, wanted))
        window = await self._tenants.run(tenant, self._vectors.trending_window)
        ordered = sorted(candidates, key=lambda c: (-c.raws[0], c.entity_no))
        best = ordered[0].raws[0] if ordered else 1.0
        items = tuple(
            Item(
                c.entity_no,
                c.entity_type,
                c.entity_id,
                c.raws[0] / best,
                (Reason("trending", 1.0),),
                c.attributes,
            )
            for c in ordered
        )
        return TrendingAnswer(items, window)

    async def rerank(
        self, tenant: Tenant, keys: Sequence[EntityKey], query: RecommendQuery
    ) -> RerankedList:
        """The caller's own list in the order of a user's preference."""
        return await self._tenants.run(tenant, lambda t: self._rerank(t, keys, query))

    async def _rerank(
        self, tenant: Tenant, keys: Sequence[EntityKey], query: RecommendQuery
    ) -> RerankedList:
        user = await self._users.context(tenant, query.user_id)
        looked_at = await _read_in_order(self._entities, tenant, query.context)
        inputs = make_inputs(tenant, user, looked_at, phase_of(user, self._cold_start))
        unique = list(dict.fromkeys(keys))
        wanted = candidate_query(inputs, query, frozenset())
        candidates = await self._vectors.score_list(tenant, unique, wanted)
        place = {key: index for index, key in enumerate(unique)}
        candidates.sort(key=lambda c: place[c.entity_type, c.entity_id])
        weights = source_weights(inputs, tenant.settings.source_weights)
        asked = query._replace(page_size=max(1, len(candidates)))
        items = await rank_off_loop(Candidates.of(candidates), inputs, weights, asked, self._turns)
        shown = {(item.entity_type, item.entity_id) for item in items}
        return RerankedList(
            tuple(items), tuple(key for key in unique if key not in shown), uuid.uuid4().hex
        )

    async def _entity(self, tenant: Tenant, key: EntityKey) -> EntityRow:
        found = await self._entities.get(tenant, [key])
        if key not in found:
            raise not_found(key)
        return found[key]


async def _read_in_order(
    entities: EntityStore, tenant: Tenant, keys: Sequence[EntityKey]
) -> list[EntityRow]:
    """Entities by name, in the order of the names; unknown ones are passed over."""
    found = await entities.get(tenant, keys) if keys else {}
    return [found[key] for key in keys if key in found]
