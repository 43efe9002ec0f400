"""The worker's own cache of ready answers: bounded, and never behind its versions."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penchant.v1.recommendation_pb2 import RecommendResponse
from prometheus_client import REGISTRY

from server import wire_cache
from server.wire_cache import Key, WireCache
from storage.version_slots import VersionSlots

_COST = wire_cache._OVERHEAD
_OLD = RecommendResponse(stale=True).SerializeToString()


def cache_of(
    slots: VersionSlots, limit: int = 100_000, renew: Callable[[Key], object] = lambda _: None
) -> WireCache:
    return WireCache(slots, limit, 60, renew)


def put(cache: WireCache, name: bytes, answer: bytes = b"answer", user: str = "ada") -> None:
    cache.put(("a", name), answer, cache.stamp("a", user))


def test_answer_is_given_until_its_user_or_tenant_changes() -> None:
    slots = VersionSlots()
    cache = cache_of(slots)
    put(cache, b"1")
    put(cache, b"2", user="ben")
    assert cache.get(("a", b"1")) == cache.get(("a", b"2")) == b"answer"
    slots.tell("a", ["ada"])
    assert (cache.get(("a", b"1")), cache.get(("a", b"2"))) == (None, b"answer")
    slots.tell("a")
    assert cache.get(("a", b"2")) is None
    assert cache.size == 0


def test_change_while_an_answer_is_made_keeps_it_out() -> None:
    slots = VersionSlots()
    cache = cache_of(slots)
    stamp = cache.stamp("a", "ada")
    slots.tell("a", ["ada"])
    cache.put(("a", b"1"), b"old", stamp)
    assert cache.get(("a", b"1")) is None


def test_answer_of_one_tenant_is_none_of_another() -> None:
    cache = cache_of(VersionSlots())
    put(cache, b"1")
    assert cache.get(("b", b"1")) is None


def test_answer_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(VersionSlots())
    put(cache, b"1")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 53)
    assert cache.get(("a", b"1")) == b"answer"
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert cache.get(("a", b"1")) is None


def test_what_was_asked_again_outlives_what_was_not() -> None:
    cache = cache_of(VersionSlots(), 20 * (_COST + 10))
    put(cache, b"often")
    for number in range(200):
        put(cache, f"{number:03}".encode())
        assert cache.get(("a", b"often")) == b"answer"
    assert cache.get(("a", b"000")) is None
    assert cache.get(("a", b"199")) == b"answer"


def test_sweep_drops_what_does_not_hold() -> None:
    slots = VersionSlots()
    cache = cache_of(slots)
    put(cache, b"1")
    put(cache, b"2", user="ben")
    before = cache.size
    slots.tell("a", ["ada"])
    cache.sweep()
    assert cache.size == before / 2


def test_answer_of_an_eighth_of_the_memory_is_not_kept() -> None:
    cache = cache_of(VersionSlots(), 80_000)
    put(cache, b"1", b"x" * 10_000)
    assert cache.size == 0


@pytest.mark.parametrize(("limit", "life_secs"), [(0, 60.0), (80_000, 0.0)])
def test_where_nothing_is_kept_nothing_is_counted(limit: int, life_secs: float) -> None:
    cache = WireCache(VersionSlots(), limit, life_secs, lambda _: None)
    assert not cache.is_on
    misses = REGISTRY.get_sample_value("penchant_wire_cache_lookups_total", {"outcome": "miss"})
    put(cache, b"1")
    assert cache.get(("a", b"1")) is None
    now = REGISTRY.get_sample_value("penchant_wire_cache_lookups_total", {"outcome": "miss"})
    assert (cache.size, now) == (0, misses)


def test_answer_that_may_be_older_is_given_marked_and_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots, renewed = VersionSlots(), list[Key]()
    cache = cache_of(slots, renew=renewed.append)
    key = ("a", b"1")
    cache.put(key, b"answer", cache.stamp("a", "ada"), age_secs=5, stale_secs=15)
    assert (cache.get(key), renewed) == (b"answer", [])
    slots.tell("a", ["ada"])
    assert (cache.get(key), renewed) == (b"answer" + _OLD, [key])
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 9)
    assert cache.get(key) == b"answer" + _OLD
    monkeypatch.setattr(time, "monotonic", lambda: now + 10)
    assert cache.get(key) is None
    assert cache.size == 0


def test_answer_that_may_be_older_outlives_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(VersionSlots())
    key = ("a", b"1")
    cache.put(key, b"answer", cache.stamp("a", "ada"), stale_secs=600)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 500)
    assert cache.get(key) == b"answer" + _OLD


def test_old_answer_is_not_put_in_place_of_what_holds() -> None:
    """What a making gives that a change has overtaken is not kept; the older one stays."""
    slots = VersionSlots()
    cache = cache_of(slots)
    key = ("a", b"1")
    cache.put(key, b"answer", cache.stamp("a", "ada"), stale_secs=60)
    stamp = cache.stamp("a", "ada")
    slots.tell("a", ["ada"])
    cache.put(key, b"overtaken", stamp, stale_secs=60)
    assert cache.get(key) == b"answer" + _OLD
    cache.put(key, b"new", cache.stamp("a", "ada"), stale_secs=60)
    assert cache.get(key) == b"new"


def test_what_was_withdrawn_is_given_to_nobody() -> None:
    slots = VersionSlots()
    cache = cache_of(slots)
    for user in ("ada", "ben"):
        cache.put(("a", user.encode()), b"answer", cache.stamp("a", user), stale_secs=60)
    slots.tell("a", withdraws=True)
    assert cache.get(("a", b"ada")) is None
    cache.put(("a", b"ada"), b"later", cache.stamp("a", "ada"), stale_secs=60)
    slots.tell("a", ["ada"])
    assert cache.get(("a", b"ada")) == b"later" + _OLD


def test_sweep_drops_what_may_be_older_too() -> None:
    slots = VersionSlots()
    cache = cache_of(slots)
    cache.put(("a", b"1"), b"answer", cache.stamp("a", "ada"), stale_secs=60)
    slots.tell("a", ["ada"])
    cache.sweep()
    assert cache.size == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "tell", "sweep"]), st.integers(0, 30)),
        max_size=200,
    )
)
def test_memory_stays_within_its_limit_and_answers_are_the_latest(
    steps: list[tuple[str, int]],
) -> None:
    slots = VersionSlots()
    cache = cache_of(slots, 12 * _COST)
    truth: dict[int, bytes] = {}
    for count, (step, number) in enumerate(steps):
        key = ("a", bytes([number]))
        if step == "put":
            truth[number] = f"{count}".encode()
            slots.tell("a", [str(number)])
            cache.put(key, truth[number], cache.stamp("a", str(number)))
        elif step == "get":
            assert cache.get(key) in {None, truth.get(number)}
        elif step == "tell":
            slots.tell("a", [str(number)])
            assert cache.get(key) is None
        else:
            cache.sweep()
        assert 0 <= cache.size <= 12 * _COST
