"""What puts answers into the log: a sample, lossy, and those whose callers asked, awaited."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import structlog
from prometheus_client import Counter

from engine.answer_log import LoggedAnswer, encode
from engine.tombstones import Tombstones
from storage.answer_log import AnswerLogStore, AnswerRow, NewAnswer
from storage.ending import end
from storage.exceptions import PenchantError

NOT_LOGGED = "answer_log"
"""In `Answer.degraded`: the caller asked for the answer to be recorded, and it was not."""

WRITTEN = Counter("penchant_answer_log_written_total", "Answers stored in the answer log.")
DROPPED = Counter(
    "penchant_answer_log_dropped_total",
    "Answers that should have been logged and were not, by reason.",
    ["reason"],
)

_MAX_WAITING = 20_000  # candidates of the answers that wait: some 40 MB with their vectors
_BATCH = 500  # answers a statement
_GATHER_SECS = 0.1
_WRITE_SECS = 5.0
_RECORD_SECS = 2.0  # what a caller waits at the most
_LAST_SECS = 3.0  # what the end of a worker waits for the last batch

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    tenant_id: str
    logged: LoggedAnswer
    stored: asyncio.Future[bool] | None


class AnswerWriter:
    """Writes logged answers in batches from a bounded queue; what does not fit is dropped, counted.

    Use it as a context manager, or end it with `close`, which writes what waits.

    Args:
        share: of the answers that are logged without being asked for, 0 to 1.
        days: how long an answer is kept.
    """

    def __init__(
        self, store: AnswerLogStore, tombstones: Tombstones, *, share: float, days: int
    ) -> None:
        self._store = store
        self._tombstones = tombstones
        self._share = share
        self._kept_for = timedelta(days=days)
        self._waiting: deque[_Waiting] = deque()
        self._candidates = 0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def wants(self, record: bool) -> bool:
        """Whether the next answer is to be logged."""
        return record or (self._share > 0 and random.random() < self._share)  # noqa: S311 - no secret

    async def log(self, tenant_id: str, logged: LoggedAnswer) -> bool:
        """Queues an answer; waits until it is stored, if the caller asked for that.

        Returns:
            False when the caller asked, and it is not stored for sure within 2 s.
        """
        if not logged.query.record:
            self._put(_Waiting(tenant_id, logged, None))
            return True
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._put(_Waiting(tenant_id, logged, stored)):
            return False
        self._hurry.set()
        done, _ = await asyncio.wait([stored], timeout=_RECORD_SECS)
        return bool(done) and stored.result()

    async def close(self) -> None:
        """Writes what waits, for a few seconds at the most, and ends."""
        self._closing = True
        self._wake.set()
        self._hurry.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=_LAST_SECS)
        await end(self._task)
        self._drop(list(self._waiting), "closed")
        self._waiting.clear()

    def _put(self, waiting: _Waiting) -> bool:
        # An answer of many candidates still gets in where nothing waits.
        if self._closing or (self._waiting and self._candidates > _MAX_WAITING):
            DROPPED.labels("closed" if self._closing else "full").inc()
            return False
        self._waiting.append(waiting)
        self._candidates += len(waiting.logged.candidates)
        if len(self._waiting) >= _BATCH:
            self._hurry.set()
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return True

    async def _run(self) -> None:
        while not self._closing or self._waiting:
            await self._wake.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _GATHER_SECS)
            self._hurry.clear()
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._candidates -= sum(len(w.logged.candidates) for w in batch)
            if not self._waiting and not self._closing:
                self._wake.clear()
            if batch:
                await self._write(batch)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            async with asyncio.timeout(_WRITE_SECS):
                rows = await asyncio.to_thread(lambda: [self._row(w) for w in batch])
                stored = await self._store.write(rows)
        except (PenchantError, TimeoutError) as error:
            _log.warning("answers not logged", answers=len(batch), error=str(error))
            self._drop(batch, "storage")
            return
        except asyncio.CancelledError:
            self._drop(batch, "closed")
            raise
        except Exception:  # noqa: BLE001 - the log of this worker must outlive a fault
            _log.exception("answers not logged", answers=len(batch))
            self._drop(batch, "fault")
            return
        gone = [w for w in batch if w.logged.answer.recommendation_id not in stored]
        WRITTEN.inc(len(batch) - len(gone))
        self._drop(gone, "erased")
        for waiting in batch:
            if waiting.stored is not None and not waiting.stored.done():
                waiting.stored.set_result(True)

    def _row(self, waiting: _Waiting) -> NewAnswer:
        logged, user_id = waiting.logged, waiting.logged.query.user_id
        row = AnswerRow(
            recommendation_id=logged.answer.recommendation_id,
            user_id=user_id,
            answered_at=logged.answered_at,
            expires_at=logged.answered_at + self._kept_for,
            model_versions=logged.answer.model_versions,
            payload=encode(logged),
        )
        return NewAnswer(waiting.tenant_id, row, self._tombstones.hash(waiting.tenant_id, user_id))

    def _drop(self, batch: Sequence[_Waiting], reason: str) -> None:
        if batch:
            DROPPED.labels(reason).inc(len(batch))
        for waiting in batch:
            if waiting.stored is not None and not waiting.stored.done():
                waiting.stored.set_result(False)
