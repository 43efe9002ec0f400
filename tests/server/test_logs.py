"""Log lines: one form for both logging systems, and no password in any."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from server.admission import Admission
from server.call import CURRENT_CALL, Call
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key pk_abcdefghijkl_S3cret, said", "key pk_abcdefghijkl_***, said"),
        ("('authorization', 'Bearer pk_abcdefghijkl_S3cret')",
         "('authorization', 'Bearer pk_abcdefghijkl_***')"),
        ('{"authorization":"Bearer S3cret"}', '{"authorization":"Bearer ***"}'),
        ("token eyJhbGciOi.eyJzdWIi.S3cr-et_", "token ***"),
        ("a bearer of good news", "a bearer *** good news"),
    ],
)  # fmt: skip
def test_keys_and_tokens_are_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected


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


def test_a_line_within_a_call_carries_request_and_tenant() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out)
    call = Call("r-1", "/a/B", "ipv4:127.0.0.1:1", Admission(1), tenant_id="shop")
    token = CURRENT_CALL.set(call)
    try:
        structlog.get_logger().info("one")
        logging.getLogger("library").warning("two")
        structlog.get_logger().info("three", tenant_id="other")
    finally:
        CURRENT_CALL.reset(token)
    structlog.get_logger().info("four")
    found = [(line.get("request_id"), line.get("tenant_id")) for line in lines_of(out)]
    assert found == [("r-1", "shop"), ("r-1", "shop"), ("r-1", "other"), (None, None)]


def test_a_tenant_id_that_can_be_none_is_not_repeated() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out)
    call = Call("r-1", "/a/B", "ipv4:127.0.0.1:1", Admission(1), tenant_id="Jane Doe")
    token = CURRENT_CALL.set(call)
    try:
        structlog.get_logger().info("one")
    finally:
        CURRENT_CALL.reset(token)
    (line,) = lines_of(out)
    assert (line["request_id"], line["tenant_id"]) == ("r-1", None)


def test_callers_that_hang_up_or_send_no_text_fill_no_log() -> None:
    out = io.StringIO()
    configure_logs("json", "info", out)
    grpc_log = logging.getLogger("grpc._cython.cygrpc")
    grpc_log.exception("ExecuteBatchError raised in core by servicer method [%s]", "/a/b")
    grpc_log.exception("Invalid encoding on %s", b"Bearer \xff")
    grpc_log.error("something else")
    assert [line["event"] for line in lines_of(out)] == ["something else"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_values_that_cannot_be_sent_are_told_at_debug_only(log_format: str) -> None:
    text = "invalid input for query argument $2: 'Jane \"J\" Doe' (expected float, got str)"
    for level, told in (("info", False), ("debug", True)):
        out = io.StringIO()
        configure_logs(log_format, level, out)
        try:
            _fail(text)
        except RuntimeError:
            structlog.get_logger().exception("fault")
        assert ("Doe" in out.getvalue()) == told
        assert "(expected float, got str)" in out.getvalue()


def _fail(text: str) -> None:
    raise RuntimeError(text)


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_rows_at_fault_are_told_at_debug_only(log_format: str, level: str, told: bool) -> None:
    out = io.StringIO()
    configure_logs(log_format, level, out)
    text = 'duplicate key\nDETAIL:  Key (user_id)=(Jane "J" Doe) already exists.\nHINT:  none'
    try:
        _fail(text)
    except RuntimeError:
        structlog.get_logger().exception("fault")
    line = out.getvalue()
    assert ("Jane" in line) == told
    assert ("Doe" in line) == told
    assert "duplicate key" in line
    if log_format == "json":
        assert json.loads(line)["event"] == "fault"
