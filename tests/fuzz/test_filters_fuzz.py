"""Whatever a filter says, it is refused by the parser or understood by PostgreSQL."""

import asyncio
import random
from importlib import resources

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Lark

from engine.filters.compiler import CompiledFilter, compile_filter
from storage.exceptions import InvalidArgument
from tests.engine.test_filters_postgres import documents, matches
from tests.fuzz.filter_texts import filter_text

_GRAMMAR = resources.files("engine.filters").joinpath("grammar.lark").read_text("utf-8")
_FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)
_texts = from_lark(Lark(_GRAMMAR), start="start") | st.text() | st.text("ab=:<>!*.()\"'\\ -0")
_cases = st.lists(st.tuples(documents, _texts), min_size=1, max_size=20)


def understood(text: str) -> CompiledFilter | None:
    """What the compiler makes of it; None where it is blank or refused."""
    try:
        return compile_filter(text)
    except InvalidArgument:
        return None


def ask(url: str, cases: list[tuple[object, str]]) -> int:
    """How many filters PostgreSQL was asked; each must say true or false."""
    asked = [(document, found) for document, text in cases if (found := understood(text))]
    if asked:
        answers = asyncio.run(matches(url, asked))
        assert set(answers) <= {True, False}
    return len(asked)


@_FEW
@given(_cases)
@example([({"attributes": {}}, "a=1")])
def test_filter_of_the_grammar_or_any_text_never_errs_in_sql(
    database_url: str, cases: list[tuple[object, str]]
) -> None:
    ask(database_url, cases)


def test_thousands_of_filters_never_err_in_sql(database_url: str) -> None:
    chance = random.Random(5)
    document = {
        "attributes": {"year": 1990, "genres": ["sf"], "author": {"name": "Ann"}, "title": "x"},
        "entity_id": "b01",
        "entity_type": "book",
        "created_at": 1714564800,
        "updated_at": 0,
    }
    texts = [filter_text(chance, wild=chance.random() < 0.5) for _ in range(3000)]
    assert ask(database_url, [(document, text) for text in texts]) > 500


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_filter_never_errs_in_sql_over_many_examples(database_url: str, short: bool) -> None:
    @settings(_FEW, max_examples=100 if short else 2000)
    @given(_cases)
    def check(cases: list[tuple[object, str]]) -> None:
        ask(database_url, cases)

    check()
