"""What is kept for the time when PostgreSQL is away, for how long, and how much of it."""

import pytest

from engine.answers import Answer, Item, Reason, pack_answer
from engine.filters.compiler import compile_filter
from engine.last_good import LastGood
from engine.requests import RecommendQuery


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def item(entity_id: str, score: float = 1.0, entity_type: str = "book") -> Item:
    return Item(1, entity_type, entity_id, score, (Reason("content", 1.0),))


def packed(*items: Item) -> bytes:
    return pack_answer(Answer(items=items, rest=b"more", recommendation_id="r1"))


def query(user_id: str = "ada", request: bytes = b"12345678", **fields: object) -> RecommendQuery:
    return RecommendQuery(user_id=user_id, request_hash=request, **fields)  # type: ignore[arg-type]


def names(answer: Answer | None) -> list[str] | None:
    return None if answer is None else [i.entity_id for i in answer.items]


def test_answer_comes_back_for_the_same_request_of_the_same_tenant_only() -> None:
    kept = LastGood()
    kept.keep(1, query(), packed(item("a")), 50)
    answer = kept.answer(1, query())
    assert answer is not None
    assert (names(answer), answer.degraded, answer.cached) == (["a"], ("postgresql",), True)
    assert (answer.rest, answer.transaction_id) == (b"", 50)
    assert kept.answer(2, query()) is None
    assert kept.answer(1, query(request=b"87654321")) is None
    assert kept.answer(1, query(page_size=3)) is None


def test_answer_too_old_is_not_given() -> None:
    clock = Clock()
    kept = LastGood(60.0, clock=clock)
    kept.keep(1, query(), packed(item("a")), 50)
    clock.now += 60
    assert names(kept.answer(1, query())) == ["a"]
    assert kept.can_answer()
    clock.now += 1
    assert kept.answer(1, query()) is None
    assert not kept.can_answer()


def test_nothing_is_kept_with_an_age_of_zero() -> None:
    kept = LastGood(0)
    kept.keep(1, query(), packed(item("a")), 50)
    assert kept.answer(1, query()) is None
    assert not kept.popular_due(1, "")
    assert (kept.bytes, kept.can_answer()) == (0, False)


@pytest.mark.parametrize(("token", "expected"), [(0, ["a"]), (49, ["a"]), (50, None), (51, None)])
def test_answer_that_does_not_know_the_token_is_not_given(
    token: int, expected: list[str] | None
) -> None:
    kept = LastGood()
    kept.keep(1, query(), packed(item("a")), 50)
    kept.keep_popular(1, "", [item("p")])
    assert names(kept.answer(1, query(), at_least_as_fresh=token)) == expected


def test_answer_takes_the_place_of_the_requests_former_one() -> None:
    kept, alone = LastGood(), LastGood()
    for names_of in ("a", "b" * 50, "c"):
        kept.keep(1, query(), packed(item(names_of)), 50)
    kept.keep(1, query("ben"), packed(item("d")), 50)  # of another user, by the same hash
    alone.keep(1, query("ben"), packed(item("d")), 50)
    assert names(kept.answer(1, query())) == ["d"]
    assert kept.bytes == alone.bytes
    assert kept.users_of(1) == ["ben"]


def test_memory_is_bounded_and_the_least_recently_given_go_first() -> None:
    size = len(packed(item("a" * 100)))
    kept = LastGood(max_bytes=3 * (size + 600))
    for number in range(3):
        kept.keep(1, query(request=bytes([number])), packed(item("a" * 100)), 1)
    assert kept.answer(1, query(request=b"\x00")) is not None
    kept.keep(1, query(request=b"\x07"), packed(item("a" * 100)), 1)
    assert kept.answer(1, query(request=b"\x01")) is None
    assert all(kept.answer(1, query(request=bytes([n]))) for n in (0, 2, 7))
    assert kept.bytes == 3 * (size + 600)
    kept.keep(1, query(request=b"\x08"), b"x" * 10_000, 1)
    assert (kept.bytes, kept.can_answer()) == (0, False)


def test_forgotten_user_is_never_kept_again() -> None:
    kept = LastGood()
    kept.keep(1, query("ada", b"1"), packed(item("a")), 1)
    kept.keep(1, query("ada", b"2"), packed(item("b")), 1)
    kept.keep(1, query("bob", b"3"), packed(item("c")), 1)
    kept.keep(2, query("ada", b"1"), packed(item("d")), 1)
    kept.forget(1, "ada")
    kept.keep(1, query("ada", b"1"), packed(item("late")), 1)
    assert kept.answer(1, query("ada", b"1")) is None
    assert kept.answer(1, query("ada", b"2")) is None
    assert names(kept.answer(1, query("bob", b"3"))) == ["c"]
    assert names(kept.answer(2, query("ada", b"1"))) == ["d"]
    kept.forget_tenant(1)
    assert kept.answer(1, query("bob", b"3")) is None
    assert names(kept.answer(2, query("ada", b"1"))) == ["d"]


def test_popular_list_honours_type_exclusions_score_and_size() -> None:
    kept = LastGood()
    kept.keep_popular(1, "", [item("a"), item("b", 0.8, "film"), item("c", 0.5), item("d", 0.2)])
    kept.keep_popular(1, "film", [item("b", 0.8, "film")])
    assert names(kept.answer(1, query())) == ["a", "b", "c", "d"]
    assert names(kept.answer(1, query(entity_type="film"))) == ["b"]
    assert kept.answer(1, query(entity_type="song")) is None
    asked = query(exclude=(("book", "a"),), context=(("book", "c"),))
    assert names(kept.answer(1, asked)) == ["b", "d"]
    assert names(kept.answer(1, query(min_score=0.5, page_size=2))) == ["a", "b"]
    assert kept.answer(1, query(min_score=2.0)) is None
    assert kept.answer(1, query(filter=compile_filter('attributes.x = "y"'))) is None
    assert kept.answer(1, query(model_version=("main", "latest"))) is None


def test_popular_list_is_due_now_and_then() -> None:
    clock = Clock()
    kept = LastGood(clock=clock)
    assert kept.popular_due(1, "")
    assert not kept.popular_due(1, "")
    assert kept.popular_due(1, "book")
    assert kept.popular_due(2, "")
    clock.now += 30
    assert kept.popular_due(1, "")
