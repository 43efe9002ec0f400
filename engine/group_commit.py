"""Group commit: what single calls bring at the same time is stored by one statement.

A plan, a round trip and a COMMIT cost a group as much as one row (DeWitt et al., "Implementation
techniques for main memory database systems", SIGMOD 1984).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from storage.exceptions import (
    Aborted,
    DeadlineExceeded,
    NotFound,
    PenchantError,
    ResourceExhausted,
    Unavailable,
)
from storage.tenants import Tenant

Row = TypeVar("Row")
Answer = TypeVar("Answer")
Store: TypeAlias = Callable[[Tenant, Sequence[Row]], Awaitable[Sequence[Answer | PenchantError]]]

MOST_ROWS = 500
MOST_WAITING = 1000
_GATHER_SECS = 0.002
_SLOW_SECS = 0.1
_MOST_UNDER_WAY = 4
_RETRY_SECS = 0.1

# What no row has caused: each of them alone would fail as its group did.
_NO_ROWS_FAULT = (Aborted, DeadlineExceeded, NotFound, Unavailable)


@dataclass(slots=True, eq=False)
class _Entry(Generic[Row, Answer]):
    tenant: Tenant
    row: Row
    deadline: float | None
    answer: asyncio.Future[Answer]
    group: "_Group[Row, Answer] | None" = None


@dataclass(slots=True, eq=False)
class _Group(Generic[Row, Answer]):
    """Rows that are being stored."""

    entries: Sequence[_Entry[Row, Answer]]
    storing: asyncio.Future[Sequence[Answer | PenchantError]]

    def leave(self) -> None:
        """A caller has gone away; when the last one has, nobody wants it stored."""
        if all(entry.answer.cancelled() for entry in self.entries):
            self.storing.cancel()


@dataclass(slots=True)
class _Lane(Generic[Row, Answer]):
    """A tenant's queue.

    Attributes:
        under_way: groups that are being stored.
        slow: those of them that have been for long, as behind a lock.
        most: rows of the next group. After a failure rows are stored one by one again, and groups
            double while all goes well: only the row at fault fails, and a tenant that may store
            no more costs a statement a row, as it would without groups.
    """

    waiting: deque[_Entry[Row, Answer]] = field(default_factory=deque)
    under_way: int = 0
    slow: int = 0
    most: int = MOST_ROWS

    @property
    def is_idle(self) -> bool:
        """Whether what waits needs another group to be begun."""
        return self.slow == self.under_way < _MOST_UNDER_WAY


class GroupCommit(Generic[Row, Answer]):
    """Stores rows of single calls, those of a tenant that arrive together by one statement.

    While a group of a tenant is under way, what arrives waits and is the next group. An idle tenant
    waits for nobody.

    Args:
        store: stores rows of a tenant in one transaction; a row's own error is its answer.
        most_waiting: rows of a tenant that may wait; more are refused.
    """

    def __init__(self, store: Store[Row, Answer], *, most_waiting: int = MOST_WAITING) -> None:
        self._store = store
        self._most_waiting = most_waiting
        self._lanes: dict[str, _Lane[Row, Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, tenant: Tenant, row: Row, deadline: float | None = None) -> Answer:
        """Stores one row; returns when it is committed.

        A caller that is cancelled while the row waits takes it out of the queue. When its group is
        under way, the row is stored or not, and the group's others do not suffer; the last of them
        to go away ends the statement.

        Args:
            deadline: monotonic time after which the row is not stored any more.

        Raises:
            ResourceExhausted: too many rows of the tenant wait.
            DeadlineExceeded: the deadline came while the row waited.
            PenchantError: the row's own, or what its group failed with.
        """
        lane = self._lanes.get(tenant.tenant_id)
        if lane is None:
            lane = self._lanes[tenant.tenant_id] = _Lane()
        if len(lane.waiting) >= self._most_waiting:
            raise ResourceExhausted(
                f"{len(lane.waiting)} writes of the tenant wait already.",
                metadata={"limit": str(self._most_waiting)},
                retry_after=_RETRY_SECS,
            )
        entry = _Entry(tenant, row, deadline, asyncio.get_running_loop().create_future())
        lane.waiting.append(entry)
        if lane.is_idle:
            self._begin(tenant.tenant_id, lane)
        try:
            answer: Answer = await entry.answer
        except asyncio.CancelledError:
            if entry.group is not None:
                entry.group.leave()
            else:
                with contextlib.suppress(ValueError):
                    lane.waiting.remove(entry)
            raise
        return answer

    def _begin(self, tenant_id: str, lane: _Lane[Row, Answer]) -> None:
        lane.under_way += 1
        # In a context of its own: no single caller's request id and tenant belong to a group.
        task = asyncio.create_task(self._run(tenant_id, lane), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, tenant_id: str, lane: _Lane[Row, Answer]) -> None:
        try:
            while lane.waiting and lane.slow == lane.under_way - 1:
                await _gather(lane)
                if group := _next_group(lane):
                    await self._run_group(tenant_id, lane, group)
        finally:
            lane.under_way -= 1
            if not (lane.under_way or lane.waiting):
                self._lanes.pop(tenant_id, None)

    async def _run_group(
        self, tenant_id: str, lane: _Lane[Row, Answer], group: Sequence[_Entry[Row, Answer]]
    ) -> None:
        is_slow = False

        def note() -> None:
            # It may wait for a lock that concerns one row of it; others need not.
            nonlocal is_slow
            is_slow = True
            lane.slow += 1
            if lane.waiting and lane.is_idle:
                self._begin(tenant_id, lane)

        timer = asyncio.get_running_loop().call_later(_SLOW_SECS, note)
        try:
            await self._store_group(lane, group)
        finally:
            timer.cancel()
            lane.slow -= is_slow

    async def _store_group(
        self, lane: _Lane[Row, Answer], group: Sequence[_Entry[Row, Answer]]
    ) -> None:
        newest = max((entry.tenant for entry in group), key=lambda tenant: tenant.version)
        storing = asyncio.ensure_future(self._store(newest, [entry.row for entry in group]))
        together = _Group(group, storing)
        for entry in group:
            entry.group = together
        try:
            answers = await storing
        except asyncio.CancelledError:
            if not storing.cancelled():
                storing.cancel()
                raise
            # All its callers have gone away.
        except _NO_ROWS_FAULT as error:
            _fail(group, error)
        except Exception as error:  # noqa: BLE001 - also a fault is the callers' to be told
            if len(group) == 1:
                _fail(group, error)
            else:
                for entry in group:
                    entry.group = None
                lane.waiting.extendleft(reversed(group))
            lane.most = 1
        else:
            lane.most = min(2 * lane.most, MOST_ROWS)
            _answer(group, answers)


async def _gather(lane: _Lane[Row, Answer]) -> None:
    """Waits, at most 2 ms, while each turn of the event loop brings more rows: never idly."""
    end = time.monotonic() + _GATHER_SECS
    before = 0
    while before < len(lane.waiting) < lane.most and time.monotonic() < end:
        before = len(lane.waiting)
        await asyncio.sleep(0)


def _next_group(lane: _Lane[Row, Answer]) -> list[_Entry[Row, Answer]]:
    """Takes rows out of the queue whose callers still wait."""
    now = time.monotonic()
    group: list[_Entry[Row, Answer]] = []
    while lane.waiting and len(group) < lane.most:
        entry = lane.waiting.popleft()
        if entry.answer.done():
            continue
        if entry.deadline is not None and entry.deadline <= now:
            entry.answer.set_exception(DeadlineExceeded())
            continue
        group.append(entry)
    return group


def _answer(
    group: Sequence[_Entry[Row, Answer]], answers: Sequence[Answer | PenchantError]
) -> None:
    for entry, answer in zip(group, answers, strict=True):
        if entry.answer.done():
            continue
        if isinstance(answer, PenchantError):
            entry.answer.set_exception(answer)
        else:
            entry.answer.set_result(answer)


def _fail(group: Sequence[_Entry[Row, Answer]], error: Exception) -> None:
    for entry in group:
        if not entry.answer.done():
            entry.answer.set_exception(error)
