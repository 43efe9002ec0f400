"""The freshness benchmark's summary: which promises were kept, and that people can read it."""

import io
import os
import socket
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks.freshness import Recorded, Run, connections_of, options, summary, table_of
from benchmarks.freshness_calls import number_of
from benchmarks.history import Operation, check, staleness
from engine.freshness import encode_freshness

LIKE = Operation("like", 1, 2, "writer", 0, "ada", entity="a", token=10)
READ = Operation("read", 3, 4, "reader", 1, "ada", seen=("a",), token=10, fresh=11)
LAST = replace(READ, kind="last", begin=9, end=9.5)


def told(*history: Operation, enough: int = 1, restarts: int = 2) -> dict:
    recorded = Recorded(list(history), {"like": [1.0], "read": [1.0, 2.0], "last": [1.0]})
    counts = Counter({"memory hit": 3, "redis miss": 1})
    made = Run(500.0, 150.0, 60.0, recorded, counts, restarts, [3, 4, 5, 4])
    return summary(made, staleness(history), check(history), enough)


def test_number_is_the_transaction_of_a_token() -> None:
    assert number_of(encode_freshness(SimpleNamespace(tenant_no=7), 123_456_789)) == 123_456_789
    assert number_of("") == 0


def test_promises_of_a_good_run_are_kept() -> None:
    found = told(LIKE, READ, LAST)
    assert set(found["kept"].values()) == {True}
    assert (found["reads_with_token"], found["likes_acknowledged"]) == (2, 1)


@pytest.mark.parametrize(
    ("history", "arguments", "broken"),
    [
        ((LIKE, replace(READ, seen=()), LAST), {}, ["none of them stale", "the checker accepts"]),
        ((LIKE, replace(READ, seen=(), token=0, fresh=0), LAST), {}, ["without", "the checker"]),
        ((LIKE, READ, LAST), {"enough": 3}, ["at least 3"]),
        ((LIKE, READ, LAST), {"restarts": 1}, ["Redis restarted 2"]),
    ],
    ids=["stale", "late", "few", "restarts"],
)
def test_broken_promises_are_named(history: tuple, arguments: dict, broken: list[str]) -> None:
    names = [name for name, kept in told(*history, **arguments)["kept"].items() if not kept]
    assert len(names) == len(broken)
    assert all(name.startswith(begin) for name, begin in zip(names, broken, strict=True))


def test_table_shows_the_figures() -> None:
    failed = replace(READ, status="UNAVAILABLE")
    text = io.StringIO()
    Console(width=120, file=text).print(table_of(told(LIKE, READ, failed, LAST)))
    assert "UNAVAILABLE 1" in text.getvalue()
    assert "no violation" in text.getvalue()
    assert "hit 3" in text.getvalue()


def test_connections_are_counted_at_the_servers_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connections_of([os.getpid()], port) == [0]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            with accepted:
                assert connections_of([os.getpid()], port) == [1]


def test_short_form_is_an_option() -> None:
    assert options().parse_args(["--short"]).short
