"""Log lines: structlog's and the standard library's in one form, on stderr, without secrets.

A line that is written while a call is served carries that call's request and tenant. Ids of users
stand in no line: what PostgreSQL adds to an error (the row at fault) is left out but at debug.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from server.call import CURRENT_CALL

_URL_PASSWORD = re.compile(r"""(://[^:@/\s"']*:)[^@/\s"']+@""")
_QUERY_PASSWORD = re.compile(r"""([?&]password=)[^&\s"']+""")
_API_KEY = re.compile(r"(pk_[a-z2-7]{12}_)[A-Za-z0-9]+")
_BEARER = re.compile(r"""(\b[Bb]earer )(?!pk_)[^\s"',)]+""")
_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
# A sign that is looked for first: most lines have none.
_SECRETS = (("pk_", _API_KEY, r"\1***"), ("earer ", _BEARER, r"\1***"), ("eyJ", _TOKEN, "***"))

# In JSON a line's end is written as backslash and n. The second is what asyncpg cannot encode.
_ROW_AT_FAULT = re.compile(
    r"""\\n\s*DETAIL:  (?:\\[^n]|[^\\"])*|\n\s*DETAIL:  .*"""
    r"""|(?<=invalid input for query argument )(\$\d+): .*?(?= \()"""
)


def redact(text: str) -> str:
    """The text with passwords of URLs, API keys (but for their ids) and tokens as `***`."""
    if "://" in text:
        text = _QUERY_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***@", text))
    for sign, secret, rest in _SECRETS:
        if sign in text:
            text = secret.sub(rest, text)
    return text


def configure_logs(
    log_format: str, level: str, stream: TextIO | None = None, **facts: object
) -> None:
    """Sets up both logging systems of this process.

    Args:
        log_format: `json`, `console`, or `auto` (console when the stream is a terminal).
        level: lines below it cost next to nothing and are not written.
        stream: where lines go; stderr when None.
        facts: stand in every line, such as which process wrote it.
    """
    out = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        _with(facts),
        _of_call,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _console_renderer(out) if console else _json_renderer()
    render = [*renderers, _without_secrets(rows=number <= logging.DEBUG)]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    # It would write a stack trace at every try to reach a PostgreSQL that is known to be away.
    logging.getLogger("asyncpg.pool").setLevel(max(number, logging.ERROR))
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_fault_of_callers)


# A caller who was gone before the answer left, and one whose metadata is no UTF-8.
_BY_CALLERS = ("ExecuteBatchError raised in core", "Invalid encoding on")


def _is_no_fault_of_callers(record: logging.LogRecord) -> bool:
    """Whether grpc tells of more than what callers did.

    Of that it writes stack traces as errors, with which they could fill the log, and the metadata
    as it came, credentials too.
    """
    return not str(record.msg).startswith(_BY_CALLERS)


def _with(facts: Mapping[str, object]) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, **facts}

    return add


def _of_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    call = CURRENT_CALL.get(None)
    if call is not None:
        event.setdefault("request_id", call.request_id)
        event.setdefault("tenant_id", call.shown_tenant)
    return event


def _console_renderer(out: TextIO) -> list[Processor]:
    # The usual formatter of tracebacks also shows what the variables hold.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]


def _json_renderer() -> list[Processor]:
    def serialise(event: EventDict, default: Callable[[object], object], **_: object) -> str:
        return orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode()

    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=serialise),
    ]


def _without_secrets(*, rows: bool) -> Processor:
    def render(_logger: WrappedLogger, _method: str, line: object) -> str:
        text = redact(str(line))
        return text if rows else _ROW_AT_FAULT.sub("", text)

    return render
