"""Filters: what parses to what, and what is refused where."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.filters.ast import And, Comparison, Not, Or, Present, Text
from engine.filters.compiler import compile_filter
from engine.filters.parser import parse_filter
from storage.exceptions import InvalidArgument


def shape(node):
    """The tree without positions, as nested tuples."""
    match node:
        case Comparison(member, comparator, literal):
            return ".".join(member), comparator, literal
        case Not(operand):
            return "not", shape(operand)
        case And(operands):
            return "and", *map(shape, operands)
        case Or(operands):
            return "or", *map(shape, operands)


A, B, C = ("a", "=", 1), ("b", "=", 2), ("c", "=", 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", A),
        ("a = 1 b = 2", ("and", A, B)),
        ("a=1 AND b=2 AND c=3", ("and", A, B, C)),
        ("a=1 b=2 AND c=3", ("and", ("and", A, B), C)),
        ("a=1 AND b=2 OR c=3", ("and", A, ("or", B, C))),
        ("a=1 OR b=2 c=3", ("and", ("or", A, B), C)),
        ("(a=1 AND b=2) OR c=3", ("or", ("and", A, B), C)),
        ("NOT a=1 OR b=2", ("or", ("not", A), B)),
        ("-a=1 -(b=2 c=3)", ("and", ("not", A), ("not", ("and", B, C)))),
        ("NOTE=1", ("NOTE", "=", 1)),
        ("a.b.c<=-2.5e1", ("a.b.c", "<=", -25.0)),
        ('"my field".sub > "x"', ("my field.sub", ">", Text("x"))),
        ("release-year>=.5", ("release-year", ">=", 0.5)),
        ("a:*", ("a", ":", Present())),
        ("a=true b!=false c=null", ("and", ("a", "=", True), ("b", "!=", False), ("c", "=", None))),
        ('a="true"', ("a", "=", Text("true"))),
        ("genre=sci-fi", ("genre", "=", Text("sci-fi"))),
        ('a="ab*"', ("a", "=", Text("ab", open_end=True))),
        ("a='*ab'", ("a", "=", Text("ab", open_start=True))),
        ("a=*ab*", ("a", "=", Text("ab", open_start=True, open_end=True))),
        (r'a="\*ab\*"', ("a", "=", Text("*ab*"))),
        (r'a="\"\'\\\n\t\r\u00e9\ud83d\ude00"', ("a", "=", Text("\"'\\\n\t\ré😀"))),
        ("t>2024-05-01T10:00:00+02:00", ("t", ">", Text("2024-05-01T10:00:00+02:00"))),
        ("电影='好'", ("电影", "=", Text("好"))),
    ],
)
def test_filter_parses_to_tree(text, expected):
    assert shape(parse_filter(text)) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_filter_when_blank_is_none(text):
    assert compile_filter(text) is None


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("a=1 OR", 6, "ends too early"),
        ("(a=1", 4, "ends too early"),
        ("a=1)", 3, "unexpected"),
        ("()", 1, "unexpected"),
        ("a=1,b=2", 3, "unexpected ','"),
        ("a = 'x", 4, "without its end"),
        ("a", 1, "comparison such as = or : is missing"),
        ("a=1 and b=2", 8, "in capitals"),
        ("NOT NOT a=1", 4, "unexpected 'NOT'"),
        ("f(x)", 1, "functions are not supported"),
        ("a=1 b.c('x')", 7, "functions are not supported"),
        ('a="a*b"', 4, "wildcard may only stand"),
        ('"a*"=1', 0, "cannot be a wildcard"),
        (r'a="\x"', 3, "unknown escape"),
        (r'a="\ud800"', 3, "surrogate"),
        (r'a="\u0000"', 3, "NUL"),
        ("a='\0'", 3, "cannot hold"),
        ("a='\ud800'", 3, "cannot hold"),
        ("a=1e999", 2, "too large"),
        ("a<true", 2, "not true, false or null"),
        ("a>=null", 3, "not true, false or null"),
        ("a>'x*'", 2, "cannot be ordered"),
        ("a>*", 2, "cannot be ordered"),
        ("entity_id=5", 10, "is text"),
        ("entity_type!=true", 13, "is text"),
        ("entity_id.x=5", 0, "has no fields"),
        ("attributes=5", 0, "is missing"),
        ("created_at>5", 11, "RFC 3339"),
        ("updated_at='2024-02-31'", 11, "RFC 3339"),
        ("created_at='2024-05-01T10:00:00'", 11, "RFC 3339"),
        ("created_at='0001-01-01T00:00:00+23:59x'", 11, "RFC 3339"),
        ("created_at:'2024-02-01'", 11, "only as"),
        ("(" * 33 + "a=1" + ")" * 33, 32, "nested deeper than 32"),
        ("(" * 4000, 32, "nested deeper than 32"),
        ("a=1 " * 65, 256, "more than 64 comparisons"),
        ("a=" + "x" * 5000, 4096, "longer than 4096"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_filter_when_wrong_says_where(text, position, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        compile_filter(text)
    assert caught.value.reason == "INVALID_FILTER"
    assert caught.value.metadata == {"position": str(position)}
    assert f"at position {position}" in caught.value.violations[0].description


def test_filter_at_the_limits_compiles():
    assert compile_filter("(" * 32 + "a=1" + ")" * 32) is not None
    assert compile_filter(" ".join(["a=1"] * 64)) is not None
    assert compile_filter("a=" + "x" * 4094) is not None


@pytest.mark.parametrize(
    ("literal", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-05-01", 1714521600),
        ("'2024-05-01T02:00:00.25+02:00'", 1714521600.25),
        ("'2024-05-01t00:00:00.123456z'", 1714521600.123456),
    ],
)
def test_filter_on_a_time_compares_epoch_seconds(literal, seconds):
    compiled = compile_filter(f"created_at >= {literal}")
    assert compiled.path == 'exists($."created_at" ? (@ >= $v0))'
    assert json.loads(compiled.variables) == {"v0": seconds}


def test_filter_values_stay_out_of_the_path():
    compiled = compile_filter("""a = "x') || true" AND b != 'y"' """)
    assert "true" not in compiled.path
    assert json.loads(compiled.variables) == {"v0": "x') || true", "v1": 'y"'}


PIECES = ["a", "b.c", "=", "!=", ":", "<", '"x*"', "'", '"', "\\", "(", ")", "AND", "OR", "NOT"]


@given(st.text() | st.lists(st.sampled_from([*PIECES, "-", "*", "1", ".", " ", "\0"])).map("".join))
@example("\ud800")
@example("a=" + "9" * 4000)
@example("a='" + "\\" * 4000)
def test_filter_of_random_text_raises_only_invalid_argument(text):
    try:
        compile_filter(text)
    except InvalidArgument as error:
        position = int(error.metadata["position"])
        assert 0 <= position <= len(text)
