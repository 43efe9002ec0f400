"""Tasks in the background end, whatever they wait for at that moment."""

import asyncio

import pytest

from storage.ending import end


async def test_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    """What `asyncio.wait_for` does to it on Python 3.11 when its work is just done."""
    lost = 0

    async def loop_for_ever() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    task = asyncio.create_task(loop_for_ever())
    await asyncio.sleep(0)
    await asyncio.wait_for(end(task, again_secs=0.01), 20)
    assert task.cancelled()
    assert lost == 1


async def test_task_ends_what_it_began_though_it_is_cancelled_again_meanwhile() -> None:
    lost = False
    begun: list[asyncio.Task[None]] = []

    async def lose_a_cancellation() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost = True

    async def work() -> None:
        begun.append(asyncio.create_task(lose_a_cancellation()))
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
