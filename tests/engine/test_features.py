"""The hashing extractor and the check of given vectors."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.features import extract_features, validate_vector
from storage.exceptions import InvalidArgument

BOOK = {
    "title": "The Hidden Garden",
    "genres": ["Fantasy", "Drama"],
    "year": 1994,
    "author": {"name": "Ann Roe"},
    "in_print": True,
    "description": "A garden that nobody has seen, and the girl who finds its key",
}
GOLDEN = [
    -0.043703,
    0.064861,
    0.0,
    0.0,
    0.764392,
    -0.194582,
    -0.080172,
    -0.129722,
    -0.033792,
    -0.064861,
    0.17852,
    0.129378,
    0.0,
    0.162152,
    -0.007656,
    -0.517844,
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def features(**attributes):
    vector = extract_features(attributes, 4096)
    assert vector is not None
    return vector


def similarity(one, other):
    return float(features(**one) @ features(**other))


def test_features_are_the_golden_ones():
    np.testing.assert_allclose(extract_features(BOOK, 16), GOLDEN, atol=1e-6)


def test_features_are_the_same_in_another_process():
    code = f"from engine.features import *; print(extract_features({BOOK!r}, 64).tobytes().hex())"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == extract_features(BOOK, 64).tobytes().hex()


@given(st.dictionaries(st.text(), json_values, max_size=6), st.sampled_from([1, 8, 512]))
def test_features_of_any_json_have_length_one(attributes, dimension):
    vector = extract_features(attributes, dimension)
    if vector is not None:
        assert vector.shape == (dimension,)
        assert vector.dtype == np.float32
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)


@given(st.dictionaries(st.text(), json_values, min_size=2, max_size=6))
def test_features_do_not_depend_on_the_order_of_fields(attributes):
    turned = dict(reversed(attributes.items()))
    one, other = extract_features(attributes, 64), extract_features(turned, 64)
    assert (one is None) == (other is None)
    if one is not None:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    "attributes",
    [{}, {"a": None}, {"a": []}, {"a": {"_b": 1}}, {"_a": "x"}, {"a": " "}, {"a": math.nan}],
    ids=str,
)
def test_features_of_nothing_are_none(attributes):
    assert extract_features(attributes, 64) is None


def test_features_of_near_years_are_near():
    assert similarity({"year": 1994}, {"year": 1995}) > 0.99
    assert similarity({"year": 1994}, {"year": 1974}) < 0.8
    assert similarity({"year": 1994}, {"year": 5}) < 0.1


def test_features_of_numbers_around_zero_are_near():
    assert similarity({"balance": -0.001}, {"balance": 0.001}) > 0.8


def test_features_of_a_category_ignore_case_and_blanks():
    assert similarity({"genre": "Sci  Fi"}, {"genre": "sci fi"}) == pytest.approx(1)


def test_features_of_a_list_count_each_value():
    assert similarity({"g": ["a", "b"]}, {"g": ["b", "c"]}) == pytest.approx(0.5, abs=0.01)


def test_features_of_one_value_in_other_fields_differ():
    assert similarity({"a": "x"}, {"b": "x"}) == pytest.approx(0, abs=0.01)


def test_features_of_genre_outweigh_identifier_and_title():
    base = {"genre": "drama", "isbn": "978-3-16-148410-0", "title": "A blue sky"}
    same_genre = {"genre": "drama", "isbn": "978-1-40-289462-6", "title": "Red door"}
    same_title = {"genre": "horror", "isbn": "978-0-30-640615-7", "title": "A blue sky"}
    assert similarity(base, same_genre) > 0.8
    assert similarity(base, same_title) < 0.2


def test_features_of_genre_are_not_drowned_by_a_long_text():
    text = " ".join(f"word{number}" for number in range(500))
    other = " ".join(f"thing{number}" for number in range(500))
    like = similarity({"genre": "drama", "plot": text}, {"genre": "drama", "plot": other})
    assert like > 0.65


def test_vector_when_right_is_float32():
    vector = validate_vector([1.0, -65504.0], 2, "feature_vector")
    assert vector.dtype == np.float32
    assert vector.tolist() == [1.0, -65504.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "has dimension 1; the tenant's is 2"),
        ([], "has dimension 0; the tenant's is 2"),
        ([1.0, math.nan], "NaN or infinity"),
        ([math.inf, math.nan], "NaN or infinity"),
        ([1.0, -math.inf], "NaN or infinity"),
        ([65505.0, 0.0], "beyond 65504"),
        ([0.0, -0.0], "all zero"),
        ([1e-9, 0.0], "all zero"),
    ],
    ids=str,
)
def test_vector_when_wrong_is_refused(values, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        validate_vector(values, 2, "feature_vector")
    assert caught.value.violations[0].field == "feature_vector"
