"""When PostgreSQL counts as away, and what happens to those who wait for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from storage.exceptions import Unavailable
from storage.outage import Outage
from tests.waiting import until

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """Answers looks at once, never, or with a refusal; remembers what was cut.

    Its process stands still, a while longer than a look may take, as often as it is told to.
    """

    def __init__(self) -> None:
        self.state = "up"
        self.pauses = 0
        self.looks = 0
        self.cuts: list[datetime | None] = []

    async def look(self) -> datetime | None:
        self.looks += 1
        if self.pauses:
            self.pauses -= 1
            await asyncio.sleep(0.1)
            time.sleep(1.3)  # noqa: ASYNC251
            await asyncio.sleep(0.1)
        if self.state == "hangs":
            await asyncio.sleep(60)
        if self.state == "refuses":
            raise Unavailable
        return STARTED

    def cut(self, server_started: datetime | None) -> None:
        self.cuts.append(server_started)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def outage(server: Server) -> AsyncIterator[Outage]:
    outage = Outage("test", server.look)
    outage.pools.append(server)
    yield outage
    await outage.close()


async def until_away(outage: Outage, *, away: bool) -> None:
    await until(lambda: outage.away is away)


async def test_suspicion_that_a_look_refutes_cuts_only_other_servers_off(
    outage: Outage, server: Server
) -> None:
    outage.suspect()
    await asyncio.sleep(0.1)
    assert (outage.away, server.cuts) == (False, [STARTED])


async def test_refusing_server_is_away_until_it_answers_and_who_waits_is_let_go(
    outage: Outage, server: Server
) -> None:
    async def wait() -> None:
        async with outage.bounded(60):
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    assert outage.waiting == 1
    server.state = "refuses"
    outage.suspect()
    with pytest.raises(Unavailable) as caught:
        await waiting
    assert (caught.value.reason, outage.waiting) == ("DATABASE_UNAVAILABLE", 0)
    assert caught.value.retry_after is not None
    assert server.cuts == [None]
    with pytest.raises(Unavailable):
        async with outage.bounded(60):
            pass
    server.state = "up"
    await until_away(outage, away=False)
    async with outage.bounded(60):
        pass


async def test_wait_that_takes_too_long_is_a_timeout(outage: Outage) -> None:
    with pytest.raises(TimeoutError):
        async with outage.bounded(0.01):
            await asyncio.sleep(60)


async def test_hanging_server_is_away_only_when_nothing_else_is_answered(
    outage: Outage, server: Server
) -> None:
    server.state = "hangs"
    outage.suspect()
    for _ in range(15):
        await asyncio.sleep(0.1)
        outage.heard()
    assert not outage.away
    await until_away(outage, away=True)
    assert server.cuts == [None]


async def test_server_is_looked_at_again_after_this_process_stood_still(
    outage: Outage, server: Server
) -> None:
    server.pauses = 1
    outage.suspect()
    await until(lambda: server.cuts)
    assert (outage.away, server.cuts, server.looks) == (False, [STARTED], 2)


async def test_process_that_always_stands_still_finds_a_hanging_server_away(
    outage: Outage, server: Server
) -> None:
    server.state, server.pauses = "hangs", 100
    outage.suspect()
    await until_away(outage, away=True)
    assert (server.cuts, server.looks) == ([None], 3)
