"""Vector indexes in memory before the first answers need them."""

import time

import structlog

from jobs.context import JobContext

_log = structlog.get_logger(__name__)


async def warm_indexes(context: JobContext) -> None:
    """Searches the indexes that are used most, as many as PostgreSQL's buffers hold.

    Raises:
        PenchantError: PostgreSQL is away or slow; answers do without.
    """
    began = time.monotonic()
    searches = 0
    indexes = await context.warming.indexes_in_use()
    for index in indexes:
        searches += await context.warming.warm(index)
    if indexes:
        _log.info(
            "vector indexes are warm",
            indexes=len(indexes),
            searches=searches,
            seconds=round(time.monotonic() - began, 1),
        )
