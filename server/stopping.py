"""How a process is asked to stop: SIGTERM or SIGINT once, and at once by a second one."""

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

_ONE_SIGNAL_SECS = 0.5
"""Signals within this time are one: the death signal of a parent with threads comes repeatedly."""


class Stopped(Exception):
    """The process was asked to stop before it was ready."""


class StopSignal:
    """Takes SIGTERM and SIGINT over. Make it inside the running loop of the main thread."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._asked_at = 0.0
        self._scope: asyncio.Timeout | None = None
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._ask)

    async def wait(self) -> None:
        """Until the process is asked to stop."""
        await self._asked.wait()

    async def before(self, work: Awaitable[T]) -> T:
        """The result of work that is cancelled when the process is asked to stop.

        Raises:
            Stopped: it was.
        """
        scope = asyncio.timeout(0 if self._asked.is_set() else None)
        try:
            async with scope:
                self._scope = scope
                try:
                    return await work
                finally:
                    self._scope = None
        except TimeoutError:
            if scope.expired():
                raise Stopped from None
            raise

    def _ask(self) -> None:
        now = self._loop.time()
        if self._asked.is_set():
            if now - self._asked_at > _ONE_SIGNAL_SECS:
                os._exit(1)  # what this process started ends with it, by the death signal
            return
        self._asked.set()
        self._asked_at = now
        if self._scope is not None:
            self._scope.reschedule(now)
