"""How the asyncio client makes the calls of `penchant.calls`."""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, cast

import grpc

from penchant import errors
from penchant.calls import Asked, Call, Method, PagedQ, PagedR, Pages, Q, R, V, document
from penchant.channel import Endpoint, Metadata
from penchant.stubs import AsyncStubs, Stubs


class AsyncConnection:
    """A channel that opens with its first call, so that a client may be made outside a loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """The channel, opened in the running loop."""
        return self._endpoint.open_async()

    @cached_property
    def stubs(self) -> AsyncStubs:
        """The stubs of the channel."""
        return AsyncStubs(self.channel)

    async def close(self) -> None:
        """Ends the calls under way and closes the channel, if it was opened."""
        if "channel" in self.__dict__:
            await self.channel.close()


@dataclass(frozen=True, slots=True)
class AsyncCaller:
    """A connection with the deadline (seconds) and the metadata of the calls made on it."""

    connection: AsyncConnection
    timeout: float
    metadata: Metadata

    async def send(self, method: Callable[[Stubs], Method[Q, R]], request: Q) -> R:
        """One unary call; its error as a PenchantError."""
        # the stubs are AsyncStubs, whose methods answer with awaitables; the table that both
        # clients share names the blocking types
        ask = cast(Callable[..., Coroutine[Any, Any, R]], method(self.connection.stubs))
        try:
            return await ask(request, timeout=self.timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error


class HasAsyncCaller(Protocol):
    """What calls are made on: the client and its `admin`."""

    @property
    def caller(self) -> AsyncCaller:
        """How to call."""


class AsyncCall(Generic[Asked, V]):
    """A method of the client that makes one unary call."""

    def __init__(self, call: Call[Asked, Any, Any, V]) -> None:
        self._call = call

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.__doc__ = self._call.build.__doc__

    def __get__(
        self, owner: HasAsyncCaller, _: type | None = None
    ) -> Callable[Asked, Coroutine[Any, Any, V]]:
        caller, call = owner.caller, self._call

        async def ask(*args: Asked.args, **kwargs: Asked.kwargs) -> V:
            request = call.build(*args, **kwargs)
            return call.render(await caller.send(call.method, request))

        document(ask, self._name, call.build)
        owner.__dict__[self._name] = ask
        return ask


class AsyncPages(Generic[Asked, V]):
    """A method of the client that gives the items of all pages, one page fetched at a time."""

    def __init__(self, pages: Pages[Asked, Any, Any, V]) -> None:
        self._pages = pages

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.__doc__ = self._pages.build.__doc__

    def __get__(
        self, owner: HasAsyncCaller, _: type | None = None
    ) -> Callable[Asked, AsyncIterator[V]]:
        caller, pages = owner.caller, self._pages

        def ask(*args: Asked.args, **kwargs: Asked.kwargs) -> AsyncIterator[V]:
            return _walk(caller, pages, pages.build(*args, **kwargs))

        document(ask, self._name, pages.build)
        owner.__dict__[self._name] = ask
        return ask


async def _walk(
    caller: AsyncCaller, pages: Pages[..., PagedQ, PagedR, V], request: PagedQ
) -> AsyncIterator[V]:
    while True:
        page = await caller.send(pages.method, request)
        for item in pages.render(page):
            yield item
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
