"""Reasons of ranked candidates, against the definition of each written down item by item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.candidates import Candidates
from engine.item_columns import unpack_rest
from engine.ranking import Ranking, rank_as_asked, ranking_as_asked
from engine.requests import RecommendQuery
from engine.sources import BY_NAME, Anchor, Inputs
from storage.vector_store import Candidate

WORDS = sorted(BY_NAME)
real = st.floats(-100, 100)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Candidate], Inputs, dict[str, float], RecommendQuery]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([3, 4]))
    anchors = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        vector = rng.normal(size=width)
        vector /= np.linalg.norm(vector)
        known = vector.astype(np.float32) if draw(st.booleans()) else None
        weight, context = draw(st.sampled_from([1.0, -1.0])), draw(st.booleans())
        anchors.append(Anchor(number, "book", f"a{number}", weight, known, context))
    offered = []
    for number in range(draw(st.integers(0, 9))):
        words = draw(st.lists(st.sampled_from(WORDS), max_size=4, unique=True))
        raws = draw(st.lists(real, min_size=len(words), max_size=len(words)))
        because = draw(st.lists(st.integers(1, 8), max_size=3, unique=True))
        near = rng.normal(size=width).astype(np.float16) if draw(st.booleans()) else None
        offered.append(
            Candidate(100 + number, "book", f"c{number}", words, raws, because, "{}", near)
        )
    led = st.lists(st.sampled_from([("book", "a1"), ("film", "m"), ("book", "m")]), max_size=3)
    of_model = {c.entity_no: tuple(draw(led)) for c in offered if draw(st.booleans())}
    inputs = Inputs("warm", None, None, tuple(anchors), offers=True, because=of_model)
    weights = {word: draw(st.sampled_from([0.0, 0.3, 1.0])) for word in WORDS}
    query = RecommendQuery(
        user_id="ada", page_size=draw(st.integers(1, 4)), explain=draw(st.booleans())
    )
    return offered, inputs, weights, query


def causes(candidate: Candidate, source: str, inputs: Inputs) -> tuple[tuple[str, str], ...]:
    """Who led a source to a candidate."""
    if source == "model":
        return inputs.because.get(candidate.entity_no, ())
    if source == "item_to_item":
        names = {a.entity_no: (a.entity_type, a.entity_id) for a in inputs.anchors}
        return tuple(names[number] for number in candidate.because if number in names)
    leads = BY_NAME[source].reasons
    if leads is None or candidate.vector is None:
        return ()
    near = [
        (float(candidate.vector.astype(np.float32) @ a.vector), (a.entity_type, a.entity_id))
        for a in inputs.anchors
        if a.vector is not None and leads(a)
    ]
    return tuple(key for cosine, key in sorted(near, key=lambda n: -n[0]) if cosine > 0)[:3]


def ranked(world) -> Ranking:
    offered, *others = world
    return ranking_as_asked(Candidates.of(offered), *others)


@given(worlds())
@settings(max_examples=200)
def test_reasons_are_the_sources_by_share_and_those_that_led_them(world):
    offered, inputs, _, _ = world
    ranking = ranked(world)
    for place, item in zip(ranking.order.tolist(), ranking.items(), strict=True):
        candidate = offered[place]
        parts = dict(
            zip(ranking.candidates.sources, ranking.blended.shares[place].tolist(), strict=True)
        )
        sources = candidate.sources
        expected = sorted(
            ((source, share) for source, share in parts.items() if share > 0), key=lambda p: -p[1]
        ) or [(source, 1 / len(sources)) for source in sources]
        assert [(r.source, r.share) for r in item.reasons] == expected
        assert [r.because_of for r in item.reasons] == [
            causes(candidate, source, inputs) for source, _ in expected
        ]


@given(worlds())
@settings(max_examples=200)
def test_later_pages_are_the_rest_of_the_same_list(world):
    size = world[-1].page_size
    ranking = ranked(world)
    items = rank_as_asked(ranking.candidates, *world[1:])
    looks = [(item.entity_type, item.entity_id, item.attributes) for item in items[size:]]
    rest = unpack_rest(ranking.columns(size, 500).pack())
    assert rest.items(looks) == tuple(items[size:])
    assert ranking.items(0, size) == items[:size]


@pytest.mark.parametrize("sources", [["content"], []], ids=["one source", "no source"])
def test_a_candidate_of_no_weight_keeps_its_sources_as_reasons(sources):
    candidate = Candidate(1, "book", "b", sources, [0.5] * len(sources))
    (item,) = rank_as_asked(
        Candidates.of([candidate]),
        Inputs("cold", None, None, ()),
        {},
        RecommendQuery(user_id="ada"),
    )
    assert [(reason.source, reason.share) for reason in item.reasons] == [
        (source, 1.0) for source in sources
    ]


@given(worlds())
def test_candidates_come_back_from_columns_as_they_were(world):
    offered = world[0]
    found = Candidates.of(offered).objects()
    for before, after in zip(offered, found, strict=True):
        said = zip(before.sources, before.raws, strict=True)
        assert list(zip(after.sources, after.raws, strict=True)) == list(said)
        assert (after.entity_no, after.entity_type, after.entity_id) == (
            before.entity_no, before.entity_type, before.entity_id,
        )  # fmt: skip
        assert list(after.because) == list(before.because)
        assert after.vector is before.vector
