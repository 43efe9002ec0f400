"""Log lines: structlog's and the standard library's in one form, on stderr, without passwords."""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_URL_PASSWORD = re.compile(r"""(://[^:@/\s"']*:)[^@/\s"']+@""")
_QUERY_PASSWORD = re.compile(r"""([?&]password=)[^&\s"']+""")


def redact(text: str) -> str:
    """The text with the passwords of the URLs in it replaced by `***`."""
    if "://" not in text:
        return text
    return _QUERY_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1***@", text))


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
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render = _console_renderer(out) if console else _json_renderer()
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


def _with(facts: Mapping[str, object]) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, **facts}

    return add


def _console_renderer(out: TextIO) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty())
    return [_redacted(renderer)]


def _json_renderer() -> list[Processor]:
    def serialise(event: EventDict, default: Callable[[object], object], **_: object) -> str:
        return orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode()

    renderer = structlog.processors.JSONRenderer(serializer=serialise)
    return [structlog.processors.format_exc_info, _redacted(renderer)]


def _redacted(renderer: Processor) -> Processor:
    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        return redact(str(renderer(logger, method, event)))

    return render
