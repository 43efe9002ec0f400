"""Which tenants' catalogues a worker remembers when there is not room for all."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

import numpy as np

from engine.known_catalogue import KnownCatalogue
from storage.tenants import Tenant, TenantSettings
from storage.vector_store import Ranked, VectorStore

THEN = datetime(2026, 1, 1, tzinfo=UTC)
WORTH = 3


class NoLists:
    """A store that has nothing to list."""

    async def lists(self, tenant: Tenant, segment: str) -> tuple[dict[str, Ranked], int]:
        return {}, 1


def tenant(number: int) -> Tenant:
    return Tenant(
        f"t{number}", number, "", 0, 4, 1.0, TenantSettings(), 1, THEN, THEN, {}
    )  # fmt: skip


class Worker:
    """Asks for tenants, of each of which one list is learned."""

    def __init__(self, room: int) -> None:
        one = KnownCatalogue(cast("VectorStore", NoLists()), 1_000_000, worth=1)
        self.known = one
        self.ask(0)
        self.known = KnownCatalogue(one._vectors, room * one._size, worth=WORTH)

    def ask(self, number: int) -> bool:
        """Whether it was known before."""
        known = self.known.of(tenant(number), 1, "")
        if known is None:
            return False
        was_known = bool(known.lists)
        known.keep("popular", "", Ranked(np.arange(8), np.zeros(8)))
        self.known.make_room(tenant(number))
        return was_known

    def ask_all(self, numbers: Iterable[int]) -> int:
        """How many were known before."""
        return sum(self.ask(number) for number in numbers)


async def test_tenants_asked_for_in_turn_do_not_push_one_another_out() -> None:
    worker = Worker(room=4)
    for _ in range(WORTH):
        worker.ask_all(range(12))
    assert [worker.ask_all(range(12)) for _ in range(30)] == [4] * 30
    await worker.known.close()


async def test_who_is_asked_for_makes_who_is_not_go() -> None:
    worker = Worker(room=4)
    for _ in range(WORTH + 1):
        worker.ask_all(range(4))
    assert worker.ask_all(range(4)) == 4
    for _ in range(2 * WORTH):
        worker.ask_all([8, 9])
    assert worker.ask_all([8, 9]) == 2
    assert worker.ask_all([2, 3]) == 2
    assert worker.ask_all([0, 1]) == 0
    await worker.known.close()


async def test_without_want_of_room_all_are_remembered() -> None:
    worker = Worker(room=12)
    for _ in range(WORTH):
        worker.ask_all(range(12))
    assert worker.ask_all(range(12)) == 12
    await worker.known.close()
