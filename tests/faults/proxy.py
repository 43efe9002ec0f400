"""A TCP proxy that does to the bytes between two servers what networks and sick servers do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Answer = Callable[[bytes], bytes]


class Proxy:
    """Listens on a port and passes on to a Unix socket, until it is told to do otherwise.

    Attributes:
        upstream: the socket; new connections go to what it is at that time.
        delay_secs: how much later answers arrive.
        answer: says instead of the server what to answer to a chunk; None: the server does.
        connections: how many were made so far.
    """

    def __init__(self, upstream: Path, host: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.host = host
        self.port = 0
        self.delay_secs = 0.0
        self.answer: Answer | None = None
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens, again on the same port after `refuse`."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        """Nothing arrives any more; connections stay, and new ones are taken."""
        self._flowing.clear()

    def thaw(self) -> None:
        """What was held back arrives."""
        self._flowing.set()

    def cut(self) -> None:
        """Ends all connections."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def refuse(self) -> None:
        """Ends all connections and takes no new ones."""
        assert self._server is not None
        self._server.close()
        self.cut()

    async def close(self) -> None:
        self.refuse()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._open.add(writer)
        try:
            with suppress(OSError):
                up_reader, up_writer = await asyncio.open_unix_connection(self.upstream)
                self._open.add(up_writer)
                try:
                    await self._pass_on(reader, writer, up_reader, up_writer)
                finally:
                    self._open.discard(up_writer)
                    up_writer.transport.abort()
        except asyncio.CancelledError:
            pass  # a task of a server that ends cancelled is reported as an error
        finally:
            self._open.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        ways = (
            asyncio.ensure_future(self._requests(reader, writer, up_writer)),
            asyncio.ensure_future(self._answers(up_reader, writer)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        while chunk := await reader.read(65536):
            await self._flowing.wait()
            if self.answer is not None:
                writer.write(self.answer(chunk))
            else:
                up_writer.write(chunk)
                await up_writer.drain()

    async def _answers(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await late.get()
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()

        delivery = asyncio.ensure_future(deliver())
        try:
            while chunk := await up_reader.read(65536):
                late.put_nowait((asyncio.get_running_loop().time() + self.delay_secs, chunk))
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)


@asynccontextmanager
async def proxied(upstream: Path, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """A proxy that listens, for a block."""
    proxy = Proxy(upstream, host)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
