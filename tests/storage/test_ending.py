"""Tasks in the background end, whatever they wait for at that moment."""

import asyncio

import pytest

from storage.ending import end


class Loser:
    """Loses its first cancellation, as `asyncio.wait_for` on Python 3.11 when its work is done."""

    lost = 0

    async def run(self) -> None:
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                if self.lost:
                    raise
                self.lost += 1


async def test_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    loser = Loser()
    task = asyncio.create_task(loser.run())
    await asyncio.sleep(0)
    await asyncio.wait_for(end(task, again_secs=0.01), 20)
    assert task.cancelled()
    assert loser.lost == 1


async def test_task_ends_what_it_began_though_it_is_cancelled_again_meanwhile() -> None:
    begun: list[asyncio.Task[None]] = []

    async def work() -> None:
        begun.append(asyncio.create_task(Loser().run()))
        try:
            await asyncio.sleep(30)
        finally:
            await end(*begun, again_secs=0.1)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    await asyncio.wait_for(end(task, again_secs=0.02), 20)
    assert task.cancelled()
    assert begun[0].cancelled()


async def test_clean_up_is_let_finish() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            cleaned = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(task, again_secs=20)
    assert cleaned


async def test_what_failed_or_is_none_is_dropped() -> None:
    async def fail() -> None:
        raise ValueError("lost")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await end(task, None)
    with pytest.raises(ValueError, match="lost"):
        task.result()
    await end()
