"""How the blocking client makes the calls of `penchant.calls`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol

import grpc

from penchant import errors
from penchant.calls import Asked, Call, Method, PagedQ, PagedR, Pages, Q, R, V, document
from penchant.channel import Endpoint, Metadata
from penchant.stubs import Stubs


class SyncConnection:
    """A channel that opens with its first call, so that a client may be made before a fork."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @cached_property
    def channel(self) -> grpc.Channel:
        """The channel."""
        return self._endpoint.open()

    @cached_property
    def stubs(self) -> Stubs:
        """The stubs of the channel."""
        return Stubs(self.channel)

    def close(self) -> None:
        """Ends the calls under way and closes the channel, if it was opened."""
        if "channel" in self.__dict__:
            self.channel.close()


@dataclass(frozen=True, slots=True)
class SyncCaller:
    """A connection with the deadline (seconds) and the metadata of the calls made on it."""

    connection: SyncConnection
    timeout: float
    metadata: Metadata

    def send(self, method: Callable[[Stubs], Method[Q, R]], request: Q) -> R:
        """One unary call; its error as a PenchantError."""
        try:
            return method(self.connection.stubs)(
                request, timeout=self.timeout, metadata=self.metadata
            )
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error


class HasCaller(Protocol):
    """What calls are made on: the client and its `admin`."""

    @property
    def caller(self) -> SyncCaller:
        """How to call."""


class SyncCall(Generic[Asked, V]):
    """A method of the client that makes one unary call."""

    def __init__(self, call: Call[Asked, Any, Any, V]) -> None:
        self._call = call

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.__doc__ = self._call.build.__doc__

    def __get__(self, owner: HasCaller, _: type | None = None) -> Callable[Asked, V]:
        caller, call = owner.caller, self._call

        def ask(*args: Asked.args, **kwargs: Asked.kwargs) -> V:
            request = call.build(*args, **kwargs)
            return call.render(caller.send(call.method, request))

        document(ask, self._name, call.build)
        owner.__dict__[self._name] = ask
        return ask


class SyncPages(Generic[Asked, V]):
    """A method of the client that gives the items of all pages, one page fetched at a time."""

    def __init__(self, pages: Pages[Asked, Any, Any, V]) -> None:
        self._pages = pages

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.__doc__ = self._pages.build.__doc__

    def __get__(self, owner: HasCaller, _: type | None = None) -> Callable[Asked, Iterator[V]]:
        caller, pages = owner.caller, self._pages

        def ask(*args: Asked.args, **kwargs: Asked.kwargs) -> Iterator[V]:
            return _walk(caller, pages, pages.build(*args, **kwargs))

        document(ask, self._name, pages.build)
        owner.__dict__[self._name] = ask
        return ask


def _walk(caller: SyncCaller, pages: Pages[..., PagedQ, PagedR, V], request: PagedQ) -> Iterator[V]:
    while True:
        page = caller.send(pages.method, request)
        yield from pages.render(page)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
