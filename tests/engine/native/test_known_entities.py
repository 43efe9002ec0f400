"""What may be shown of rankings and the union of what sources say, compiled and in NumPy."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import native
from engine.known_entities import Blocked, Chosen, KnownEntities
from storage.vector_store import EntityFacts, Ranked
from tests.engine.native.both import assert_equal, both, needs_kernels

pytestmark = needs_kernels

AT = datetime(2026, 11, 1, tzinfo=UTC)
LATER = AT + timedelta(days=1)
KNOWN = 40
"""Numbers below are known: four kinds in turn, as `entities` has them; those above are not."""

numbers = st.integers(1, KNOWN) | st.integers(1, KNOWN + 10)
rankings = st.lists(numbers, unique=True, max_size=KNOWN + 10).map(
    lambda found: Ranked(np.array(found, np.int64), np.linspace(1, 0, len(found), dtype=np.float64))
)
hidden = st.sets(numbers, max_size=20)


def entities() -> KnownEntities:
    """Shown, hidden, shown from tomorrow, and shown until tomorrow; one in five is no more."""
    known = KnownEntities()
    for number in reversed(range(1, KNOWN)):
        kind = number % 4
        facts = EntityFacts(
            ("book", f"b{number}"),
            "{}",
            hidden=kind == 1,
            available_from=LATER if kind == 2 else None,
            available_until=LATER if kind == 3 else None,
        )
        known.learn(number, None if number % 5 == 0 else facts)
        if number % 3:
            known.learn_vector(number, np.full(4, number, np.float16))
    return known


ENTITIES = entities()


def blocked(numbers: set[int]) -> Blocked:
    places = ENTITIES.of_keys([("book", f"b{number}") for number in sorted(numbers)])
    return Blocked(places, len(numbers), lambda: numbers)


def columns(chosen: Chosen | None):
    return None if chosen is None else (chosen.places, chosen.scores)


@given(rankings, st.integers(1, 30), hidden)
def test_best_is_the_same(ranked: Ranked, limit: int, not_these: set[int]):
    ours, theirs = both(lambda: ENTITIES.best(ranked, limit, blocked(not_these), AT))
    assert_equal(columns(ours), columns(theirs))
    assert not ENTITIES._blocked.any()


@given(rankings, st.integers(0, 30), hidden)
def test_best_of_a_head_is_the_same(ranked: Ranked, limit: int, not_these: set[int]):
    head, other = both(lambda: ENTITIES.head(ranked, 25))
    assert_equal(columns(head), columns(other))
    ours, theirs = both(lambda: ENTITIES.best_of_head(head, limit, blocked(not_these)))
    assert_equal(columns(ours), columns(theirs))
    assert not ENTITIES._blocked.any()


@given(rankings)
def test_places_are_the_same(ranked: Ranked):
    assert_equal(*both(lambda: ENTITIES.places_of(ranked.numbers)))


places = st.lists(st.integers(0, len(ENTITIES) - 1), max_size=30)
scores = st.sampled_from([0.0, -0.0, 1.0]) | st.floats(allow_nan=False)


@given(st.lists(st.tuples(places, st.booleans(), scores), max_size=5))
def test_union_is_the_same(said):
    chosen = [
        Chosen(np.array(own, np.intp), score - np.arange(len(own), dtype=np.float64))
        for own, _, score in said
    ]
    ours, theirs = both(lambda: ENTITIES.union(chosen, [wanted for _, wanted, _ in said]))
    assert_equal(ours[:5], theirs[:5])
    assert all(one is other for one, other in zip(ours[5], theirs[5], strict=True))


@pytest.mark.parametrize("place", [-1, len(ENTITIES)])
def test_union_of_a_place_that_is_not_there_is_refused(place: int):
    with pytest.raises(IndexError):
        ENTITIES.union([Chosen(np.array([place]), np.ones(1))], [False])


def test_what_is_blocked_beyond_the_places_touches_nothing():
    mask = np.zeros(4, np.bool_)
    none = np.array([-1, 4, 1])
    found = native.kernels.unblocked(np.arange(4), np.ones(4), 3, none, mask)
    assert found is not None
    assert found[0].tolist() == [0, 2, 3]
    assert not mask.any()


def test_a_ranking_whose_facts_cannot_be_told_leaves_nothing_blocked():
    class Odd:
        def is_shown(self, at):
            raise RuntimeError

    mask = np.zeros(1, np.bool_)
    with pytest.raises(RuntimeError):
        native.kernels.shown(
            np.array([7]), np.ones(1), 1, {7: 0}, np.full(1, 2, np.uint8),
            np.empty(0, np.intp), mask, set, {0: Odd()}, AT,  # type: ignore[dict-item]
        )  # fmt: skip
    assert not mask.any()
