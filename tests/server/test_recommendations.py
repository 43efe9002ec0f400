"""Items as messages: kept attributes make the very same ones."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penchant.v1 import recommendation_pb2 as pb

from engine.answers import Answer, Item, Reason, SourceScore
from server import attributes
from server.attributes import forget_attributes
from server.convert import json_to_struct
from server.recommendations import render_answer

words = st.text(max_size=6)
names = st.tuples(words, words)
real = st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**53) | st.floats(-1e300, 1e300) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
texts = st.dictionaries(words, values, max_size=4).map(lambda kept: orjson.dumps(kept).decode())
items = st.builds(
    Item,
    st.integers(1, 9),
    words,
    words,
    real,
    st.lists(
        st.builds(Reason, words, real, st.lists(names, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
    texts,
    st.lists(st.builds(SourceScore, words, real, real, real), max_size=2).map(tuple),
)
answers = st.builds(
    Answer,
    st.lists(items, max_size=4).map(tuple),
    recommendation_id=words,
    degraded=st.lists(words, max_size=2).map(tuple),
    model_versions=st.lists(words, max_size=2).map(tuple),
    candidate_counts=st.dictionaries(words, st.integers(0, 9), max_size=2),
)


def plainly(answer: Answer, explain: bool) -> pb.RecommendResponse:
    """The same message, built with keywords and nothing that was kept."""
    response = pb.RecommendResponse(
        recommendation_id=answer.recommendation_id,
        degraded=answer.degraded,
        model_versions=answer.model_versions,
    )
    for item in answer.items:
        added = response.items.add(
            entity={"entity_type": item.entity_type, "entity_id": item.entity_id},
            score=item.score,
            reasons=[
                {
                    "source": reason.source,
                    "share": reason.share,
                    "because_of": [
                        {"entity_type": kind, "entity_id": name} for kind, name in reason.because_of
                    ],
                }
                for reason in item.reasons
            ],
            source_scores=[
                {"source": s.source, "raw": s.raw, "normalized": s.normalized, "weight": s.weight}
                for s in item.source_scores
            ],
        )
        json_to_struct(item.attributes, added.attributes)
    if explain:
        response.explanation.phase = answer.phase
        response.explanation.candidate_counts.update(answer.candidate_counts)
    return response


@given(answers, st.booleans())
def test_answer_rendered_with_kept_attributes_is_the_same_message(answer, explain):
    request = pb.RecommendRequest(explain=explain)
    expected = plainly(answer, explain)
    for _ in range(2):
        rendered = render_answer(answer, request)
        assert pb.RecommendResponse.FromString(rendered.SerializeToString()) == expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [('{"a": 1}', 1), (orjson.dumps({"a": "x" * 5000}).decode(), 0)],
    ids=["short", "long"],
)
def test_attributes_are_kept_where_they_are_short_and_until_they_are_forgotten(text, kept):
    forget_attributes()
    answer = Answer((Item(1, "book", "b", 1.0, (), text),))
    assert render_answer(answer, pb.RecommendRequest()) == plainly(answer, explain=False)
    assert attributes._packed.cache_info().currsize == kept
    forget_attributes()
    assert attributes._packed.cache_info().currsize == 0
