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
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import InvalidResponse, RedisError, ResponseError

UNSENT_BYTES = 16 << 20
"""While more than this waits to be written, nothing more is asked."""

_STEPS = 8
_SHORTEST_STEP_SECS = 0.001
_NOTHING = object()

# The stub of hiredis takes tuples of one part only.
_packed: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Lane:
    """Commands to Redis over one connection, which is made when it is first needed.

    redis-py makes the connection, so a URL means what it means there; its client takes a
    connection, a timer and a write a command, which costs ten times as much. A connection that
    breaks fails the commands that wait, and the next command makes another. An error reply fails
    its own command only.

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
        # After the URL's own: in RESP2 Redis says nothing that it was not asked.
        self._pool.connection_kwargs.update(protocol=2, socket_timeout=None)
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


def _transport_of(connection: AbstractConnection) -> asyncio.Transport:
    """What a connection of redis-py's reads and writes, to be read and written past it.

    redis-py has no name for it. Its own ways to send and read are coroutines, and a task for each
    costs a worker two turns of its loop a reply, some 60 µs.
    """
    assert connection._writer is not None
    return connection._writer.transport  # type: ignore[return-value]  # of a stream it is one


class _Link(asyncio.Protocol):
    """One connection from its making to its end.

    Time is counted by a clock for all commands: each of its ticks notes how many were asked so far,
    and looks whether those of `_STEPS - 1` steps before are answered.

    Attributes:
        broken: nothing can be asked any more.
        task: connects, waits, and ends when the connection is closed.
    """

    def __init__(
        self, connection: AbstractConnection, answer_secs: float, connect_secs: float
    ) -> None:
        self.broken = False
        self._connection = connection
        self._connect_secs = connect_secs
        self._step = max(answer_secs / _STEPS, _SHORTEST_STEP_SECS)
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_NOTHING
        )
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._leaving = False
        self._answered = 0
        self._asked: deque[int] = deque(maxlen=_STEPS - 1)
        self._overdue = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.task = self._loop.create_task(self._run())

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        transport = self._transport
        written = 0 if transport is None else transport.get_write_buffer_size()
        if written + self._unsent_bytes > UNSENT_BYTES:
            raise RedisError("too much waits to be written")
        if transport is not None:
            if not self._unsent:
                self._loop.call_soon(self._send)
            if self._timer is None:
                self._start_clock()
        asked = self._loop.create_future()
        self._waiting.append(asked)
        self._unsent.append(packed)
        self._unsent_bytes += len(packed)
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
        try:
            async with asyncio.timeout(self._connect_secs):
                await self._connection.connect()  # type: ignore[no-untyped-call]
                if await self._connection.can_read():
                    raise InvalidResponse("more replies than commands")
            self._transport = _transport_of(self._connection)
            self._transport.set_protocol(self)
            self._start_clock()
            self._send()
            await self._loop.create_future()
        except (RedisError, OSError) as error:
            self._break(error)
        finally:
            self._break(NotConnected("ended"))
            if self._transport is not None:
                # Closed gently, it would keep what Redis does not read.
                self._transport.abort()
            with suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    def _send(self) -> None:
        transport = self._transport
        if transport is not None and self._unsent and not transport.is_closing():
            transport.writelines(self._unsent)
            self._unsent = []
            self._unsent_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Hands replies to who asked, in order."""
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not _NOTHING:
                self._answer(reply)
        except InvalidResponse as error:
            self.stop(error)
        if self._leaving and not self._waiting:
            self.stop(NotConnected("left"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Redis ended the connection, or this side did."""
        self.stop(NotConnected("the connection broke"))

    def _answer(self, reply: object) -> None:
        if not self._waiting:
            raise InvalidResponse("more replies than commands")
        self._answered += 1
        asked = self._waiting.popleft()
        if asked.done():
            return
        if isinstance(reply, ResponseError):
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
