"""Filters mean in PostgreSQL what a small evaluator in Python says that they mean."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.filters.ast import And, Comparison, Not, Or, Present, Text
from engine.filters.compiler import compile_filter
from storage.exceptions import InvalidArgument

MATCH = """
SELECT array_agg(jsonb_path_match(d, p::jsonpath, v, silent => true) ORDER BY n)
FROM unnest($1::jsonb[], $2::text[], $3::jsonb[]) WITH ORDINALITY AS rows (d, p, v, n)
"""
COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
TIMES = ["1970-01-01", "2024-05-01T12:00:00Z", "2024-05-01T12:00:00.5+02:00"]

slow_fixture = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def matches(url, cases):
    """What PostgreSQL answers for pairs of document and compiled filter."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            MATCH,
            [json.dumps(document) for document, _ in cases],
            [compiled.path for _, compiled in cases],
            [compiled.variables for _, compiled in cases],
        )
    finally:
        await connection.close()


# The evaluator


def unwrap(values):
    """Lists replaced by their elements, one level, as jsonpath's lax mode does."""
    return [e for value in values for e in (value if isinstance(value, list) else [value])]


def reach(values, member):
    for name in member:
        values = [v[name] for v in unwrap(values) if isinstance(v, dict) and name in v]
    return values


def kind(value):
    return "number" if type(value) in (int, float) else type(value)


def same(value, literal):
    return kind(value) == kind(literal) and not isinstance(value, list | dict) and value == literal


def fits(value, pattern, *, ignore_case):
    if not isinstance(value, str):
        return False
    wanted = pattern.value
    if ignore_case:
        value, wanted = value.lower(), wanted.lower()
    if pattern.open_start and pattern.open_end:
        return wanted in value
    return value.endswith(wanted) if pattern.open_start else value.startswith(wanted)


def compare(document, comparison):
    member, comparator, literal = comparison.member, comparison.comparator, comparison.literal
    if member[0] in ("created_at", "updated_at") and isinstance(literal, Text):
        moment = datetime.fromisoformat(literal.value)
        literal = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    elif member[0] not in document:
        member = ("attributes", *member)
    found = reach([document], member)
    items = unwrap(unwrap(found))  # the filter unwraps once, its operand once more
    plain = literal.value if isinstance(literal, Text) else literal
    if comparator in COMPARE:
        return any(kind(item) == kind(plain) and COMPARE[comparator](item, plain) for item in items)
    if isinstance(literal, Present):
        return any(item is not None for item in items)
    if isinstance(literal, Text) and literal.is_pattern:
        return any(fits(item, literal, ignore_case=comparator == ":") for item in items)
    return any(same(item, plain) for item in items) or (
        comparator == ":" and isinstance(literal, Text) and contains(found, plain)
    )


def contains(found, text):
    if reach(found, [text]):
        return True
    anywhere = Text(text, open_start=True, open_end=True)
    return not any(isinstance(value, list) for value in found) and any(
        fits(item, anywhere, ignore_case=True) for item in found
    )


def evaluate(document, node):
    match node:
        case Comparison(comparator="!="):
            return not compare(document, Comparison(node.member, "=", node.literal))
        case Comparison():
            return compare(document, node)
        case Not(operand):
            return not evaluate(document, operand)
        case And(operands):
            return all(evaluate(document, operand) for operand in operands)
        case Or(operands):
            return any(evaluate(document, operand) for operand in operands)


# Text from trees


def quote(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return escaped.replace("\n", "\\n")


def render_literal(literal):
    match literal:
        case Present():
            return "*"
        case Text(value, open_start, open_end):
            return f'"{"*" * open_start}{quote(value)}{"*" * open_end}"'
    return json.dumps(literal)


def render(node):
    match node:
        case Comparison(member, comparator, literal):
            name = ".".join(f'"{quote(part)}"' for part in member)
            return f"{name} {comparator} {render_literal(literal)}"
        case Not(operand):
            return f"NOT ({render(operand)})"
        case And(operands):
            return " AND ".join(f"({render(operand)})" for operand in operands)
        case Or(operands):
            return " OR ".join(f"({render(operand)})" for operand in operands)


# Strategies: few names and values, so that comparisons are often true

texts = st.sampled_from(["", "a", "A", "ab", "b.*", "x\ny", '"\\', "é", "😀", "^a$"])
numbers = st.sampled_from([-1, 0, 1, 1.5, 2**53, 0.1, -1e-7])
scalars = texts | numbers | st.booleans() | st.none()
names = st.sampled_from(["a", "b", "ab", "é b", 'q"'])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
documents = st.fixed_dictionaries(
    {
        "attributes": st.dictionaries(names, values, max_size=4),
        "entity_id": texts,
        "entity_type": texts,
        "created_at": st.sampled_from([0, 1714564800, 1714557600.5, 1.5]),
        "updated_at": st.just(0),
    }
)
exact = st.builds(Text, texts)
patterns = st.builds(Text, texts.filter(bool), st.booleans(), st.booleans())
members = st.lists(names, min_size=1, max_size=3).map(tuple)
leaves = st.one_of(
    st.builds(
        Comparison,
        members,
        st.sampled_from(["=", "!=", ":"]),
        exact | patterns | numbers | st.booleans() | st.none() | st.just(Present()),
    ),
    st.builds(Comparison, members, st.sampled_from(list(COMPARE)), exact | numbers),
    st.builds(
        Comparison,
        st.sampled_from([("entity_id",), ("entity_type",)]),
        st.sampled_from(["=", "!=", ":"]),
        exact | patterns,
    ),
    st.builds(
        Comparison,
        st.just(("created_at",)),
        st.sampled_from(["=", "!=", *COMPARE]),
        st.sampled_from(TIMES).map(Text),
    ),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@slow_fixture
@given(st.lists(st.tuples(documents, trees), min_size=1, max_size=30))
def test_filter_in_postgres_means_what_the_evaluator_says(database_url, cases):
    expected = [evaluate(document, tree) for document, tree in cases]
    compiled = [(document, compile_filter(render(tree))) for document, tree in cases]
    assert asyncio.run(matches(database_url, compiled)) == expected


@slow_fixture
@given(st.lists(st.tuples(members | st.tuples(st.text()), st.text()), min_size=1, max_size=30))
def test_filter_of_any_text_is_accepted_by_postgres(database_url, cases):
    compiled = []
    for member, value in cases:
        name = ".".join(f'"{quote(part)}"' for part in member)
        for comparison in (f'= "{quote(value)}"', f': "{quote(value)}"', f'= "{quote(value)}*"'):
            with contextlib.suppress(InvalidArgument):  # a NUL, say
                compiled.append(({"attributes": {}}, compile_filter(f"{name} {comparison}")))
    if compiled:
        assert asyncio.run(matches(database_url, compiled)) == [False] * len(compiled)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_filter_means_the_same_over_many_examples(database_url, short):
    @settings(slow_fixture, max_examples=100 if short else 2000)
    @given(st.lists(st.tuples(documents, trees), min_size=1, max_size=30))
    def check(cases):
        expected = [evaluate(document, tree) for document, tree in cases]
        compiled = [(document, compile_filter(render(tree))) for document, tree in cases]
        assert asyncio.run(matches(database_url, compiled)) == expected

    check()


async def test_filter_examples_in_postgres(database_url):
    film = {
        "attributes": {
            "title": "The Hidden Garden",
            "genres": ["sci-fi", "drama"],
            "year": 1994,
            "author": {"name": "Ann Roe"},
        },
        "entity_id": "f-1",
        "entity_type": "film",
        "created_at": 1714564800,
        "updated_at": 1714564800,
    }
    expected = {
        'genres:drama AND year>=1990 OR title="x"': True,
        "genres:dram": False,
        "genres = drama": True,
        'title:"hidden g"': True,
        'title="the hidden*"': False,
        "title='The*' -genres:horror": True,
        "author:name": True,
        "author.name:roe": True,
        "missing != 1": True,
        "missing:* OR NOT missing:*": True,
        "missing < 1": False,
        'year = "1994"': False,
        'entity_id = "f-*"': True,
        "created_at > 2024-05-01 created_at < '2024-05-02T00:00:00Z'": True,
    }
    cases = [(film, compile_filter(text)) for text in expected]
    assert dict(zip(expected, await matches(database_url, cases), strict=True)) == expected
