"""One connection to Redis for many callers: what a turn of the loop asks goes out in one write."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NotConnected

from storage.ending import end

UNSENT_BYTES = 16 << 20
"""While more than this waits to be written, nothing more is asked."""

# Errors that Redis replied; others are the connection's.
_REPLIES = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)

_STEPS = 8
_SHORTEST_STEP_SECS = 0.001

# The stub of hiredis takes tuples of one part only.
_packed: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Lane:
    """Commands to Redis over one connection, which is made when it is first needed.

    redis-py makes the connection and reads replies, so a URL means what it means there; its client
    takes a connection, a timer and a write a command, which costs ten times as much. A connection
    that breaks fails the commands that wait, and the next command makes another. An error reply
    fails its own command only.

    Args:
        url: of Redis.
        answer_secs: the longest wait for a reply, told in steps of an eighth of it. Of a pause of
            this process half of it counts at most: the replies may have come meanwhile.
        connect_secs: the longest wait for a connection and its handshake; what is asked meanwhile
            shares the attempt.
    """

    def __init__(self, url: str, *, answer_secs: float, connect_secs: float) -> None:
        self._pool = ConnectionPool.from_url(
            url, socket_connect_timeout=connect_secs, retry=Retry(NoBackoff(), 0)
        )
        # After the URL's own: only RESP2 says nothing that it is not asked, and replies are bytes.
        # redis-py's timeouts would cost a timer a reply; the link has a clock of its own.
        self._pool.connection_kwargs.update(
            protocol=2, decode_responses=False, socket_timeout=None, health_check_interval=0
        )
        self._answer_secs = answer_secs
        self._connect_secs = connect_secs
        self._link: _Link | None = None
        self._links: set[_Link] = set()
        self._closed = False

    def ask(self, *command: bytes) -> asyncio.Future[Any]:
        """Sends a command; the future is its reply. May be cancelled, which harms no other.

        Raises (the call itself or the future):
            RedisError: Redis refuses, the connection broke, or too much waits to be written.
            TimeoutError: no reply, or no connection, in time.
        """
        link = self._link
        if link is None or link.broken:
            link = self._connect()
        return link.ask(_packed(command))

    def renew(self) -> None:
        """The next command gets a new connection; those that wait keep theirs to their end."""
        if self._link is not None:
            self._link.leave()
            self._link = None

    async def close(self) -> None:
        """Closes the connection, for good; what waits for a reply fails."""
        self._closed = True
        links = tuple(self._links)
        for link in links:
            link.stop(NotConnected("closed"))
        if links:
            await asyncio.wait([link.task for link in links])

    def _connect(self) -> "_Link":
        if self._closed:
            raise NotConnected("closed")
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        link = _Link(connection, self._answer_secs, self._connect_secs)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))
        self._link = link
        return link


class _Link:
    """One connection from its making to its end.

    Time is counted by a clock for all commands: each of its ticks notes how many were asked so far,
    and looks whether those of `_STEPS - 1` steps before are answered.

    Attributes:
        broken: nothing can be asked any more.
        task: connects, reads, and ends when the connection is closed.
    """

    def __init__(
        self, connection: AbstractConnection, answer_secs: float, connect_secs: float
    ) -> None:
        self.broken = False
        self._connection = connection
        self._connect_secs = connect_secs
        self._step = max(answer_secs / _STEPS, _SHORTEST_STEP_SECS)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._to_send = asyncio.Event()
        self._connected = self._leaving = False
        self._answered = 0
        self._asked: deque[int] = deque(maxlen=_STEPS - 1)
        self._overdue = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.task = self._loop.create_task(self._run())

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        if self._unsent_bytes > UNSENT_BYTES:
            raise RedisError("too much waits to be written")
        asked = self._loop.create_future()
        self._waiting.append(asked)
        self._unsent.append(packed)
        self._unsent_bytes += len(packed)
        self._to_send.set()
        if self._timer is None and self._connected:
            self._start_clock()
        return asked

    def leave(self) -> None:
        """Ends when all that was asked is answered."""
        self._leaving = True
        if not self._waiting:
            self.stop(NotConnected("left"))

    def stop(self, error: BaseException) -> None:
        """Breaks, and closes the connection."""
        if not self.broken:
            self._break(error)
            self.task.cancel()

    def _break(self, error: BaseException) -> None:
        self.broken = True
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.done():
                asked.set_exception(error)

    async def _run(self) -> None:
        sending: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._connect_secs):
                await self._connection.connect()  # type: ignore[no-untyped-call]
            self._connected = True
            self._start_clock()
            sending = self._loop.create_task(self._send())
            await self._read()
        except (RedisError, OSError) as error:
            self._break(error)
        finally:
            self._break(NotConnected("ended"))
            # Before the disconnection: redis-py connects again to send.
            await end(sending)
            with suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    async def _send(self) -> None:
        try:
            while await self._to_send.wait():
                self._to_send.clear()
                packed, self._unsent = self._unsent, []
                size = self._unsent_bytes
                await self._connection.send_packed_command(packed, check_health=False)
                self._unsent_bytes -= size
        except (RedisError, OSError) as error:
            self.stop(error)

    async def _read(self) -> None:
        while self._waiting or not self._leaving:
            reply: Any
            try:
                reply = await self._connection.read_response(disconnect_on_error=False)
            except _REPLIES as error:
                reply = error
            if not self._waiting:
                raise InvalidResponse("a reply to no command")
            self._answered += 1
            asked = self._waiting.popleft()
            if asked.done():
                continue
            if isinstance(reply, RedisError):
                asked.set_exception(reply)
            else:
                asked.set_result(reply)

    def _start_clock(self) -> None:
        """Runs while somebody waits."""
        self._asked.clear()
        self._overdue = False
        self._due = self._loop.time() + self._step
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        if not self._waiting:
            self._timer = None
            return
        now = self._loop.time()
        late = now - self._due
        # A pause of the process says nothing of Redis, and a busy loop must not wait for ever.
        steps = min(1 + int(late / self._step), _STEPS // 2)
        self._asked.extend([self._answered + len(self._waiting)] * steps)
        was_overdue, self._overdue = self._overdue, self._late()
        if was_overdue and self._overdue:
            # A reply that the loop has received in this turn is read before.
            self._loop.call_soon(self._give_up)
        self._due = (self._due if late < self._step else now) + self._step
        self._timer = self._loop.call_at(self._due, self._tick)

    def _late(self) -> bool:
        return len(self._asked) == self._asked.maxlen and self._answered < self._asked[0]

    def _give_up(self) -> None:
        if self._late() and not self.broken:
            self.stop(TimeoutError("Redis does not answer"))
