"""Turns: pieces of work one after the other, and the loop runs between them."""

import asyncio

import pytest

from engine.turns import Turns


async def test_loop_runs_between_pieces_that_were_ready_together() -> None:
    turns, seen = Turns(), []

    async def other_callers() -> None:
        for number in range(3):
            seen.append(f"call {number}")
            await asyncio.sleep(0)

    async def piece(name: str) -> str:
        return await turns.do(lambda: seen.append(name) or name)

    done = await asyncio.gather(piece("a"), piece("b"), piece("c"), other_callers())
    assert done[:3] == ["a", "b", "c"]
    assert [name for name in seen if len(name) == 1] == ["a", "b", "c"]
    assert seen.index("call 2") < seen.index("b")


async def test_piece_that_fails_gives_its_turn_on() -> None:
    turns = Turns()

    def fail() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        await turns.do(fail)
    assert await turns.do(lambda: 1) == 1
