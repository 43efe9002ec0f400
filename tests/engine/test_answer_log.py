"""Logged answers: every bit comes back, and a replay of any answer is identical."""

import zlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answer_log import MAX_ANCHORS, LoggedAnswer, decode, encode
from engine.answer_replay import Outcome, boosts, explain, history, replay, scored
from engine.answers import Answer, Item
from engine.candidates import Candidates
from engine.filters.compiler import CompiledFilter
from engine.ranking import rank_as_asked
from engine.requests import Boost, RecommendQuery
from engine.sources import BY_NAME, Anchor, Inputs
from storage.vector_store import Candidate

names = st.text(min_size=1, max_size=6)
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
small = st.floats(-2, 2, width=16)
SF = CompiledFilter('$.genre == "sf"', "{}")
OLD = CompiledFilter("$.year < $y", '{"y": 1950}')


@st.composite
def vectors(draw: st.DrawFn, dtype: type[np.floating[Any]]) -> Any:
    if draw(st.booleans()):
        return None
    return np.array(draw(st.lists(small, min_size=4, max_size=4)), dtype)


@st.composite
def candidates(draw: st.DrawFn, number: int, boosted: int, anchors: int) -> Candidate:
    sources = draw(st.lists(st.sampled_from(sorted(BY_NAME)), min_size=1, unique=True))
    raw = st.floats(-1e6, 1e6)
    return Candidate(
        entity_no=number,
        entity_type=draw(names),
        entity_id=draw(names),
        sources=sources,
        raws=draw(st.lists(raw, min_size=len(sources), max_size=len(sources))),
        because=draw(st.lists(st.integers(1, max(anchors, 1)), max_size=3)),
        attributes=draw(st.sampled_from(["{}", '{"title": "t"}'])),
        vector=draw(vectors(np.float16)),
        boosts=draw(st.lists(st.booleans(), min_size=boosted, max_size=boosted)),
    )


@st.composite
def answers(draw: st.DrawFn) -> LoggedAnswer:
    """An answer that was ranked from arbitrary candidates."""
    count, anchor_count = draw(st.integers(0, 12)), draw(st.integers(0, 5))
    factors = draw(st.lists(st.floats(0.01, 100), max_size=2))
    query = RecommendQuery(
        user_id=draw(names),
        context=draw(st.lists(st.tuples(names, names), max_size=2).map(tuple)),
        entity_type=draw(st.one_of(st.just(""), names)),
        page_size=draw(st.integers(1, 4)),
        filter=draw(st.sampled_from([None, OLD])),
        exclude=draw(st.lists(st.tuples(names, names), max_size=2).map(tuple)),
        include_seen=draw(st.booleans()),
        boosts=tuple(Boost(SF, factor) for factor in factors),
        diversity=draw(st.sampled_from([0.0, 0.3, 1.0])),
        min_score=draw(st.one_of(st.none(), st.floats(0, 1))),
        explain=draw(st.booleans()),
        model_version=draw(st.sampled_from([None, ("m", "latest")])),
        record=draw(st.booleans()),
        asked=draw(st.binary(max_size=9)),
        request_hash=draw(st.binary(min_size=8, max_size=8)),
    )
    anchors = tuple(
        Anchor(
            n,
            draw(names),
            draw(names),
            draw(finite),
            draw(vectors(np.float32)),
            draw(st.booleans()),
        )
        for n in range(1, anchor_count + 1)
    )
    offered = [draw(candidates(100 + n, len(factors), anchor_count)) for n in range(count)]
    inputs = Inputs(
        phase=draw(st.sampled_from(["unknown", "cold", "warm"])),
        profile=None,
        context=None,
        anchors=anchors,
        segment=draw(st.text(max_size=3)),
        offers=draw(st.booleans()),
        because={c.entity_no: (("kind", "name"),) for c in offered if draw(st.booleans())},
    )
    weights = {name: draw(st.floats(0, 10)) for name in BY_NAME}
    return LoggedAnswer(
        answered_at=draw(st.datetimes(timezones=st.just(UTC))),
        query=query,
        answer=Answer(
            items=tuple(rank_as_asked(Candidates.of(offered), inputs, weights, query)),
            recommendation_id=draw(names),
            phase=inputs.phase,
            interaction_count=draw(st.integers(0, 2**40)),
            candidate_counts=draw(st.dictionaries(names, st.integers(0, 9), max_size=2)),
            model_versions=draw(st.lists(names, max_size=2).map(tuple)),
        ),
        candidates=offered,
        inputs=inputs,
        weights=weights,
        seen_excluded=draw(st.booleans()),
        settings=draw(st.dictionaries(names, st.one_of(finite, names), max_size=2)),
    )


def bare(items: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(replace(item, attributes="{}") for item in items)


@given(answers())
@settings(max_examples=80, deadline=None)
def test_a_logged_answer_comes_back_and_its_replay_is_identical(logged: LoggedAnswer) -> None:
    back = decode(encode(logged))
    assert (back.query, back.answered_at) == (logged.query, logged.answered_at)
    assert back.answer == replace(logged.answer, items=bare(logged.answer.items))
    assert (back.weights, back.settings) == (logged.weights, logged.settings)
    assert back.seen_excluded == logged.seen_excluded
    assert [c.entity_no for c in back.candidates] == [c.entity_no for c in logged.candidates]
    assert [list(c.raws) for c in back.candidates] == [list(c.raws) for c in logged.candidates]
    again = replay(back)
    assert again.differences == ()
    assert again.items == bare(logged.answer.items)


@given(answers())
@settings(max_examples=40, deadline=None)
def test_every_candidate_is_explained(logged: LoggedAnswer) -> None:
    back = decode(encode(logged))
    items = scored(back)
    assert sorted(items) == [c.entity_no for c in back.candidates]
    assert len(boosts(back)) == len(back.candidates)
    ranked = {item.entity_no: place for place, item in enumerate(back.answer.items)}
    names_of = [(c.entity_type, c.entity_id) for c in back.candidates]
    for candidate, key in zip(back.candidates, names_of, strict=True):
        if names_of.count(key) > 1:
            continue
        outcome = explain(back, key)
        assert outcome.item == items[candidate.entity_no]
        assert outcome.position == ranked.get(candidate.entity_no)
        assert (outcome.word == "below_min_score") == (candidate.entity_no not in ranked)


def example(**query: Any) -> LoggedAnswer:
    """One candidate, `book/b`, for a reader of `book/a`."""
    asked = RecommendQuery(user_id="ada", **query)
    anchors = (
        Anchor(1, "book", "a", 2.0, None),
        Anchor(2, "book", "c", 3.0, None, context=True),
    )
    inputs = Inputs("cold", None, None, anchors)
    offered = [Candidate(9, "book", "b", ["popular"], [1.0])]
    weights = {"popular": 1.0}
    items = tuple(rank_as_asked(Candidates.of(offered), inputs, weights, asked))
    answer = Answer(items, recommendation_id="r", candidate_counts={"popular": 1})
    return LoggedAnswer(
        datetime(2026, 1, 1, tzinfo=UTC), asked, answer, offered, inputs, weights, True
    )


@pytest.mark.parametrize(
    ("query", "key", "why"),
    [
        pytest.param({"exclude": (("book", "x"),)}, ("book", "x"), "excludes", id="excluded"),
        pytest.param({"context": (("book", "c"),)}, ("book", "c"), "context", id="context"),
        pytest.param({"entity_type": "book"}, ("film", "f"), "type book only", id="other type"),
        pytest.param({}, ("user", "u"), "only when asked for", id="a user"),
        pytest.param({}, ("book", "a"), "had interacted with it", id="seen"),
        pytest.param({"filter": SF}, ("book", "z"), "outside the filter", id="filtered"),
    ],
)
def test_explain_of_no_candidate_says_why(
    query: dict[str, Any], key: tuple[str, str], why: str
) -> None:
    outcome = explain(example(**query), key)
    assert outcome == Outcome("no_candidate", outcome.sentence)
    assert why in outcome.sentence


def test_replay_names_what_differs() -> None:
    logged = example()
    (item,) = logged.answer.items

    def differences(*items: Item) -> tuple[str, ...]:
        return replay(replace(logged, answer=replace(logged.answer, items=items))).differences

    assert differences(item) == ()
    assert differences() == ("0 items were answered, 1 come out",)
    assert differences(replace(item, score=0.5)) == ("place 0: book/b had the score 0.5, now 1.0",)
    assert differences(replace(item, reasons=())) == ("place 0: book/b has other reasons",)


def test_history_begins_with_the_strongest() -> None:
    assert history(example()) == [("book", "c"), ("book", "a")]


def test_encode_keeps_the_anchors_that_led_to_a_candidate() -> None:
    logged = example()
    anchors = tuple(Anchor(n, "book", f"a{n}", 1.0, None) for n in range(1000))
    offered = [replace(logged.candidates[0], because=[700])]
    logged = replace(logged, inputs=logged.inputs._replace(anchors=anchors), candidates=offered)
    kept = [a.entity_no for a in decode(encode(logged)).inputs.anchors]
    assert kept == [*range(MAX_ANCHORS), 700]


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no answer", id="other bytes"),
        pytest.param(encode(example())[:-9], id="cut"),
        pytest.param(zlib.compress(msgpack.packb([99])), id="another layout"),
    ],
)
def test_decode_refuses_what_is_no_logged_answer(packed: bytes) -> None:
    with pytest.raises(ValueError, match="logged answer"):
        decode(packed)
