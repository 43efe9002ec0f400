"""Connections that have just come back, to be lent again without asking the pool."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from storage.driver_types import Connection

KEPT_SECS = 1.0
"""How long one waits to be lent again before the pool has it back."""


class IdleLoans:
    """Loans that nobody needs at the moment; the pool takes them for lent.

    To give a connection back to asyncpg's pool and to take it again are two tasks, a timer and
    eight turns of the loop: more than a small statement costs. What is not lent again soon goes
    back, so that the pool's own rules for connections that are idle hold.

    Args:
        give_back: gives one to the pool, behind the caller.
    """

    def __init__(self, give_back: Callable[[Connection], object]) -> None:
        self._give_back = give_back
        self._idle: deque[tuple[Connection, float]] = deque()  # the latest is the last
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many there are that are still open."""
        return sum(_is_open(borrowed) for borrowed, _ in self._idle)

    def keep(self, borrowed: Connection) -> None:
        """Takes one in, in the state in which it is to be lent."""
        self._idle.append((borrowed, time.monotonic()))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECS, self._sweep)

    def take(self) -> Connection | None:
        """The one that came back last; None: there is none."""
        while self._idle:
            borrowed, _ = self._idle.pop()
            if _is_open(borrowed):
                return borrowed
        return None

    def take_all(self) -> list[Connection]:
        """All of them, from now on the caller's."""
        taken = [borrowed for borrowed, _ in self._idle if _is_open(borrowed)]
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return taken

    def _sweep(self) -> None:
        before = time.monotonic() - KEPT_SECS
        while self._idle and self._idle[0][1] <= before:
            borrowed, _ = self._idle.popleft()
            if _is_open(borrowed):
                self._give_back(borrowed)
        self._timer = None
        if self._idle:
            wait = max(0.01, self._idle[0][1] - before)
            self._timer = asyncio.get_running_loop().call_later(wait, self._sweep)


def _is_open(borrowed: Connection) -> bool:
    """Whether it is there to be lent: the pool has those back that were closed."""
    session = borrowed._con  # type: ignore[attr-defined]  # missing in the stubs
    return session is not None and not session.is_closed()
