"""Candidates are the same, whatever a worker knows of the catalogue."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from engine.candidates import Candidates
from engine.gathering import Gatherer
from engine.inputs import candidate_query, make_inputs
from engine.known_catalogue import KnownCatalogue
from engine.related import relate
from engine.requests import RecommendQuery
from engine.sources import NEWEST, SOURCES
from jobs.context import JobContext
from jobs.registry import run_once
from storage.entities import EntityRow
from storage.situations import Recalled, Situation
from storage.users import UserStore
from storage.vector_store import CandidateQuery, Ranked, VectorStore
from tests.jobs.conftest import DIMENSION, Shop

ENTITIES, USERS, LIMIT = 80, 8, 6
PLENTY = 64 * 1024 * 1024


class CountingStore(VectorStore):
    """Counts the statements, and those for numbers alone."""

    asked = by_number = 0

    async def offers(self, *args: Any) -> Any:
        self.asked += 1
        return await super().offers(*args)

    async def nearest(self, *args: Any) -> Any:
        self.asked += 1
        self.by_number += 1
        return await super().nearest(*args)

    async def lists(self, *args: Any) -> Any:
        self.asked += 1
        return await super().lists(*args)


async def put(shop: Shop, number: int, **changes: Any) -> None:
    key = ("item", f"e{number}")

    def change(present: EntityRow | None) -> EntityRow:
        return replace(present or EntityRow(*key), **changes)

    await shop.entities.apply(shop.tenant, {key: change})


async def fill(shop: Shop, dice: random.Random) -> None:
    for number in range(ENTITIES):
        vector = np.array([dice.gauss(0, 1) for _ in range(DIMENSION)], np.float16)
        await put(
            shop,
            number,
            attributes=f'{{"n": {number}}}',
            feature_vector=vector if dice.random() < 0.8 else None,
            hidden=dice.random() < 0.2,
            **window(dice),
        )
    for user in range(USERS):
        await shop.put(f"u{user}", entity_type="user", attributes=f'{{"country": "c{user % 2}"}}')
        for _ in range(20):
            liked = f"e{int(ENTITIES * dice.random() ** 2)}"
            await shop.event(f"u{user}", liked, weight=dice.choice([1.0, 1.0, 0.0]))
    await run_once(shop.context)


def window(dice: random.Random) -> dict[str, datetime | None]:
    now = datetime.now(UTC)
    past, future = now - timedelta(hours=1), now + timedelta(hours=1)
    from_, until = dice.choice(
        [(None, None), (None, None), (past, None), (future, None), (None, past), (past, future)]
    )
    return {"available_from": from_, "available_until": until}


async def start(
    shop: Shop, user_id: str, exclude: Sequence[tuple[str, str]]
) -> tuple[CandidateQuery, Situation]:
    """What the recommender would ask for, and from where it starts."""
    users = UserStore(shop.context.service)
    situation = await users.situation(shop.tenant, user_id, neighbours_of=64)
    inputs = make_inputs(shop.tenant, situation.user, (), "warm")
    asked = frozenset(s.name for s in SOURCES if s is not NEWEST and s.asks(inputs))
    query = candidate_query(inputs, RecommendQuery(user_id=user_id, exclude=exclude), asked)
    related = relate(inputs.anchors, situation.neighbours, 200)
    return query._replace(limit=LIMIT, seen=situation.seen, related=related), situation


def plain(candidates: Candidates) -> list[tuple[Any, ...]]:
    return [
        (
            c.entity_no, c.entity_type, c.entity_id, c.sources, c.raws, tuple(c.because),
            c.attributes, None if c.vector is None else c.vector.tobytes(), tuple(c.boosts),
        )
        for c in candidates.objects()
    ]  # fmt: skip


def met(situation: Situation) -> tuple[Any, ...]:
    """What of a situation can be recalled, or depends on it."""
    history = [
        (
            h.entity_no,
            h.entity_id,
            h.weight,
            h.happened_at,
            None if h.vector is None else h.vector.tobytes(),
        )
        for h in situation.user.history
    ]
    neighbours = {
        number: (known.numbers.tolist(), known.scores.tolist())
        for number, known in situation.neighbours.items()
    }
    looked_at = [(row.entity_no, row.entity_id) for row in situation.looked_at]
    return history, neighbours, situation.seen, situation.versions.catalogue_revision, looked_at


async def known_lists(known: KnownCatalogue) -> None:
    for task in list(known._listing.values()):
        await task


@pytest.fixture
def store(context: JobContext) -> CountingStore:
    return CountingStore(context.service)


@pytest.mark.parametrize("seed", range(3))
async def test_candidates_are_the_same_whatever_is_known(
    shop: Shop, store: CountingStore, seed: int
) -> None:
    dice = random.Random(seed)
    await fill(shop, dice)
    known = KnownCatalogue(store, PLENTY)
    remembering = Gatherer(store, known)
    asking = Gatherer(store, KnownCatalogue(store, 0))
    named: set[str] = set()
    started = 0
    for turn in range(80):
        # While nothing changes for a time, answers come to be made from memory alone.
        change = dice.random() if turn % 40 < 20 else 1.0
        if change < 0.15:
            number = dice.randrange(ENTITIES)
            await put(shop, number, hidden=dice.random() < 0.5, **window(dice))
        elif change < 0.2:
            await shop.entities.delete(shop.tenant, ("item", f"e{dice.randrange(ENTITIES)}"))
        elif change < 0.25:
            await run_once(shop.context, ["trending", "neighbours"])
        exclude = tuple(("item", f"e{dice.randrange(ENTITIES)}") for _ in range(dice.randrange(4)))
        user = f"u{dice.randrange(USERS + 1)}"
        query, situation = await start(shop, user, exclude)
        recalled = remembering.recalled(shop.tenant)
        if recalled is not None:
            users = UserStore(shop.context.service)
            again = await users.recalled_situation(shop.tenant, user, recalled, neighbours_of=64)
            if again is None:
                remembering.surprised(shop.tenant)
            else:
                started += 1
                assert met(again) == met(situation)
        if dice.random() < 0.3:
            rows = await shop.rows("SELECT entity_no FROM entities WHERE tenant_id = $1")
            offered = [int(str(no)) for (no,) in dice.sample(rows, 30)]
            model = Ranked(np.array(offered), 1 / np.arange(1.0, 31.0))
            query = query._replace(sources=query.sources | {"model"}, model=model)
        if dice.random() < 0.2:
            query = query._replace(seen_by=None)
        if dice.random() < 0.2:
            query = query._replace(vectors=sorted(query.sources))
        remembered = await remembering.candidates(shop.tenant, query, situation)
        assert plain(remembered) == plain(await asking.candidates(shop.tenant, query, situation))
        named |= set(remembered.sources)
        await known_lists(known)
    assert named >= {"content", "item_to_item", "model", "popular", "segment", "trending"}
    assert store.by_number > 0
    assert started > 0


@pytest.mark.parametrize("looked_at", [(), (("item", "e3"), ("item", "e1"), ("item", "gone"))])
async def test_what_was_met_at_one_moment_has_one_order(
    shop: Shop, context: JobContext, looked_at: tuple[tuple[str, str], ...]
) -> None:
    dice = random.Random(7)
    await fill(shop, dice)
    now = datetime.now(UTC)
    for number in dice.sample(range(ENTITIES), 50):
        await shop.event("u1", f"e{number}", at=now, weight=dice.choice([1.0, 0.0, -1.0]))
    users = UserStore(context.service)
    wanted: dict[str, Any] = {"looked_at": looked_at, "interactions": 40, "neighbours_of": 64}
    whole = await users.situation(shop.tenant, "u1", **wanted)
    vectors = {h.entity_no: h.vector for h in whole.user.history if h.vector is not None}
    recalled = Recalled(whole.versions.catalogue_revision, vectors, whole.neighbours)
    again = await users.recalled_situation(shop.tenant, "u1", recalled, **wanted)
    assert again is not None
    assert met(again) == met(whole)
    at_once = [h for h in whole.user.history if h.happened_at == now]
    assert [h.entity_id for h in at_once] == sorted(h.entity_id for h in at_once)
    assert len(at_once) > 10


async def ask(shop: Shop, gatherer: Gatherer, **changes: Any) -> Candidates:
    query, situation = await start(shop, "u1", ())
    return await gatherer.candidates(shop.tenant, query._replace(**changes), situation)


async def test_what_is_known_is_not_asked_for_again(shop: Shop, store: CountingStore) -> None:
    await fill(shop, random.Random(1))
    known = KnownCatalogue(store, PLENTY, worth=2)
    gatherer = Gatherer(store, known)
    lists = frozenset({"item_to_item", "popular", "segment", "trending"})
    for _ in range(4):
        before = await ask(shop, gatherer, sources=lists)
        await known_lists(known)
    asked = store.asked
    assert plain(await ask(shop, gatherer, sources=lists)) == plain(before)
    assert store.asked == asked
    await ask(shop, gatherer)  # of all sources: content is always asked
    assert store.asked == asked + 1


async def change_entity(shop: Shop) -> None:
    await put(shop, 0, hidden=True)


async def change_lists(shop: Shop) -> None:
    await shop.event("u7", "e50")
    await run_once(shop.context, ["trending"])


@pytest.mark.parametrize("change", [change_entity, change_lists])
async def test_what_is_known_ends_with_the_catalogue_s_next_change(
    shop: Shop, store: CountingStore, change: Callable[[Shop], Any]
) -> None:
    await fill(shop, random.Random(1))
    known = KnownCatalogue(store, PLENTY, worth=2)
    for _ in range(4):
        await ask(shop, Gatherer(store, known))
        await known_lists(known)
    _, situation = await start(shop, "u1", ())
    before = known.of(shop.tenant, situation.versions.catalogue_revision, "")
    assert before is not None
    assert len(before.entities)
    assert before.lists
    await change(shop)
    _, situation = await start(shop, "u1", ())
    assert known.of(shop.tenant, situation.versions.catalogue_revision, "") is None
    assert (known._size, len(known._tenants)) == (0, 0)
    after = known.of(shop.tenant, situation.versions.catalogue_revision, "")
    assert after is not None
    assert not len(after.entities)
    assert not after.lists
    # An answer that started before the change is made of nothing that came after it.
    assert known.of(shop.tenant, before.revision[1], "") is None


async def test_who_is_asked_for_seldom_is_not_remembered(shop: Shop, store: CountingStore) -> None:
    await fill(shop, random.Random(1))
    known = KnownCatalogue(store, PLENTY)
    sizes = []
    for hidden in (True, False):
        for _ in range(4):
            await ask(shop, Gatherer(store, known))
            sizes.append(known._size)
        await put(shop, 0, hidden=hidden)
    assert sizes == [0] * 8
    for _ in range(5):
        await ask(shop, Gatherer(store, known))
    assert known._size > 0


async def test_memory_is_bounded_and_can_be_emptied(shop: Shop, store: CountingStore) -> None:
    await fill(shop, random.Random(1))
    known = KnownCatalogue(store, 10_000, worth=1)
    for _ in range(4):
        await ask(shop, Gatherer(store, known))
        await known_lists(known)
    assert known._size == sum(t.size for t in known._tenants.values())
    assert known._size <= 10_000
    known = KnownCatalogue(store, PLENTY, worth=1)
    for hidden in (True, False):
        await ask(shop, Gatherer(store, known))
        assert 0 < known._size == sum(t.size for t in known._tenants.values())
        await put(shop, 0, hidden=hidden)
    known.clear()
    assert (known._size, len(known._tenants)) == (0, 0)
