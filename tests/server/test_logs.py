"""Log lines: one form for both logging systems, and no password in any."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from server.logs import configure_logs, redact


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines_of(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_lines_of_both_systems_are_json() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out, worker=7)
    structlog.get_logger().info("one", count=2)
    logging.getLogger("library").warning("two %s", "three")
    first, second = lines_of(out)
    assert (first["event"], first["count"], first["level"]) == ("one", 2, "info")
    assert (second["event"], second["logger"], second["level"]) == (
        "two three",
        "library",
        "warning",
    )
    assert first["worker"] == second["worker"] == 7


def test_lines_below_the_level_are_not_written() -> None:
    out = io.StringIO()
    configure_logs("auto", "warning", out)
    structlog.get_logger().info("one")
    logging.getLogger("library").info("two")
    assert out.getvalue() == ""


def test_trace_of_an_exception_is_redacted() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out)
    error = ValueError("cannot reach postgresql://user:secret@host/db")
    structlog.get_logger().error("failed", exc_info=error)
    (line,) = lines_of(out)
    assert "postgresql://user:***@host/db" in str(line["exception"])
    assert "secret" not in out.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://h/d?user=u&password=pw&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ('{"a":"http://h:80","b":"c@d"}', '{"a":"http://h:80","b":"c@d"}'),
    ],
)
def test_redact_takes_passwords_out(text: str, expected: str) -> None:
    assert redact(text) == expected
