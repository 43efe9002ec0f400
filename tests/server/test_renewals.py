"""Answers made anew behind calls: one an answer, a few at a time, and never for long."""

import asyncio

import pytest
from structlog.testing import capture_logs

from server import renewals
from server.renewals import RENEWALS, Renewals
from server.wire_cache import Key
from storage.exceptions import Unavailable


def count(outcome: str) -> float:
    return RENEWALS.labels(outcome)._value.get()


class Maker:
    """Makes answers once it may."""

    def __init__(self, of: Renewals) -> None:
        self.begun: list[Key] = []
        self.may = asyncio.Event()
        self.error: Exception | None = None
        of.made_by(self.make)

    async def make(self, key: Key) -> None:
        self.begun.append(key)
        await self.may.wait()
        if self.error is not None:
            raise self.error


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_answer_is_made_once_at_a_time() -> None:
    under_test = Renewals(60)
    maker = Maker(under_test)
    for _ in range(32):
        under_test.start(("a", b"1"))
        under_test.start(("b", b"1"))
    await settle()
    assert maker.begun == [("a", b"1"), ("b", b"1")]
    maker.may.set()
    await settle()
    under_test.start(("a", b"1"))
    await settle()
    assert maker.begun == [("a", b"1"), ("b", b"1"), ("a", b"1")]


async def test_more_than_a_few_are_put_off() -> None:
    under_test = Renewals(60)
    maker = Maker(under_test)
    before = count("put_off")
    for number in range(renewals._AT_ONCE + 3):
        under_test.start(("a", bytes([number])))
    await settle()
    assert len(maker.begun) == renewals._AT_ONCE
    assert count("put_off") - before == 3
    await under_test.close()


async def test_making_ends_with_its_deadline() -> None:
    under_test = Renewals(0.02)
    maker = Maker(under_test)
    before = count("failed")
    under_test.start(("a", b"1"))
    await asyncio.sleep(0.2)
    assert count("failed") - before == 1
    under_test.start(("a", b"1"))
    await settle()
    assert len(maker.begun) == 2
    await under_test.close()


@pytest.mark.parametrize(
    ("error", "level"), [(Unavailable("away"), "debug"), (KeyError("fault"), "error")]
)
async def test_error_is_logged_and_the_next_call_tries_again(error: Exception, level: str) -> None:
    under_test = Renewals(60)
    maker = Maker(under_test)
    maker.error = error
    maker.may.set()
    before = count("failed")
    with capture_logs() as lines:
        under_test.start(("a", b"1"))
        await settle()
    assert [line["log_level"] for line in lines] == [level]
    assert count("failed") - before == 1
    under_test.start(("a", b"1"))
    await settle()
    assert len(maker.begun) == 2


async def test_nothing_is_started_after_the_end() -> None:
    under_test = Renewals(60)
    maker = Maker(under_test)
    under_test.start(("a", b"1"))
    await settle()
    await under_test.close()
    under_test.start(("a", b"2"))
    await settle()
    assert maker.begun == [("a", b"1")]
