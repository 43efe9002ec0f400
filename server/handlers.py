"""Method handlers of grpc rebuilt around one function, without grpc's own parsing.

grpc answers INTERNAL to bytes that do not parse, before any code of the service runs. Here raw
bytes come in and are parsed in one place.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from server.admission import Admission
from server.call import current_call
from storage.exceptions import InvalidArgument, Unimplemented

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
Work: TypeAlias = Callable[[], Awaitable[Any]]
Around: TypeAlias = Callable[[str, Handler], "Rebuilt"]
Door: TypeAlias = Callable[[Metadata], "Handler | None"]
"""Asked before a call's message is read: a handler that refuses the call, or None to let it in."""


INVOCATION_METADATA: ContextVar[Metadata] = ContextVar("penchant_invocation_metadata")
"""Of the running call. gRPC makes it once to find the handler, and anew whenever it is asked."""


def metadata_of(context: Context) -> Metadata:
    """What the caller sent along: names and values."""
    found = INVOCATION_METADATA.get(None)
    if found is None:
        found = cast("Metadata", context.invocation_metadata() or ())
    return found


class Serve(Protocol):
    """Runs the work of one call with everything that the edge does around it."""

    def __call__(self, context: Context, work: Work, known: Any = None) -> Awaitable[Any]:
        """The work's result; errors end the call with their status."""
        ...


class Guard(Protocol):
    """Says, in the course of a call, whether it may go on; errors end it."""

    def admit(self, message: Any) -> None:
        """Looks at a message of the caller's, before the servicer has it."""
        ...

    def go_on(self) -> None:
        """Is asked before each answer of a stream leaves."""
        ...


def rebuild(
    handler: Handler,
    serve: Serve,
    guard: Guard,
    admission: Admission,
    ready: Callable[[bytes, Context], Any] | None = None,
    door: Door | None = None,
) -> "Rebuilt":
    """The handler of the same kind whose calls run through `serve`.

    Args:
        handler: of an asyncio servicer.
        serve: called once a call.
        guard: asked within the work that `serve` runs.
        admission: ends streams that wait for the caller when the worker drains.
        ready: the answer in bytes to a request as it came, where it lies ready; else what `serve`
            is to know of it.
        door: asked at each call with its metadata, before `ready`.
    """
    parse = _parser(handler, guard)
    behaviour = _behaviour(handler, guard)
    serialise = _or_bytes(handler.response_serializer)

    async def one(raw: bytes, context: Context) -> Any:
        return await serve(context, lambda: _begin(behaviour, parse(raw), context))

    async def one_or_ready(raw: bytes, context: Context) -> Any:
        found = ready(raw, context) if ready is not None else None
        if isinstance(found, bytes):
            return found

        def work() -> Awaitable[Any]:
            current_call().raw = raw
            return _begin(behaviour, parse(raw), context)

        answer = await serve(context, work, found)
        return answer if serialise is None else serialise(answer)

    async def many(raw: AsyncIterator[bytes], context: Context) -> Any:
        messages = _Messages(raw, parse, admission)
        return await serve(context, lambda: _begin(behaviour, messages, context))

    unary = one if ready is None else one_or_ready
    return Rebuilt(
        request_streaming=handler.request_streaming,
        response_streaming=handler.response_streaming,
        # Ready answers are bytes, and gRPC asks it of all.
        response_serializer=serialise if ready is None else None,
        behaviour=many if handler.request_streaming else unary,
        door=door,
    )


def refusing(refuse: Callable[[Context], bytes]) -> Handler:
    """A handler for calls that get no answer: gRPC reads no message for it.

    Args:
        refuse: sets the code on the context.
    """

    async def behaviour(_: AsyncIterator[bytes], context: Context) -> bytes:
        return refuse(context)

    # One that takes a stream reads what it wants; for the caller it is the same on the wire.
    return Rebuilt(
        request_streaming=True,
        response_streaming=False,
        response_serializer=None,
        behaviour=behaviour,
    )


def _or_bytes(serialise: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Servicers may answer in bytes, too."""
    if serialise is None:
        return None
    return lambda answer: answer if isinstance(answer, bytes) else serialise(answer)


def guarded(server: grpc.aio.Server, around: Around) -> grpc.aio.Server:
    """The server, to add servicers to: each method gets something around it.

    Args:
        server: the real one.
        around: makes a method's handler, from its name on the wire and the servicer's handler.
    """
    return cast("grpc.aio.Server", _Guarded(server, around))


class _Guarded(grpc.GenericRpcHandler):
    """All services as one handler: gRPC asks its handlers one after the other at each call."""

    def __init__(self, server: grpc.aio.Server, around: Around) -> None:
        self._inner: list[grpc.GenericRpcHandler] = []
        self._make = around
        self._made: dict[str, Rebuilt] = {}
        server.add_generic_rpc_handlers([self])

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """As the real server's."""
        self._inner += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """What generated code calls beside the other; grpc's asyncio server makes no use of it."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        name = handler_call_details.method
        metadata = handler_call_details.invocation_metadata or ()
        INVOCATION_METADATA.set(metadata)
        made = self._made.get(name) or self._first(handler_call_details)
        if made is None:
            return None  # grpc answers UNIMPLEMENTED
        return made if made.door is None else made.door(metadata) or made

    def _first(self, details: grpc.HandlerCallDetails) -> "Rebuilt | None":
        for inner in self._inner:
            handler = inner.service(details)
            if handler is not None:
                made = self._made[details.method] = self._make(details.method, handler)
                return made
        return None


def _begin(
    behaviour: Callable[[Any, Context], Awaitable[Any]], request: Any, context: Context
) -> Awaitable[Any]:
    try:
        return behaviour(request, context)
    except NotImplementedError:
        # Generated servicers raise it, not within a coroutine, for what nobody has written.
        raise Unimplemented from None


class Rebuilt(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """A handler of raw bytes.

    Attributes:
        door: asked before the handler is; None: every call may come in.
    """

    def __init__(
        self,
        *,
        request_streaming: bool,
        response_streaming: bool,
        response_serializer: Callable[[Any], bytes] | None,
        behaviour: Callable[[Any, Context], Awaitable[Any]],
        door: Door | None = None,
    ) -> None:
        self.door = door
        self.request_streaming = request_streaming
        self.response_streaming = response_streaming
        self.request_deserializer = None
        self.response_serializer = response_serializer
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        mine = kinds[2 * request_streaming + response_streaming]
        for kind in kinds:
            setattr(self, kind, behaviour if kind == mine else None)


class _Messages:
    """The caller's messages, each parsed when it is asked for."""

    def __init__(
        self, raw: AsyncIterator[bytes], parse: Callable[[bytes], Any], admission: Admission
    ) -> None:
        self._source = raw
        self._raw: AsyncIterator[bytes] | None = None
        self._parse = parse
        self._admission = admission

    def __aiter__(self) -> "_Messages":
        return self

    async def __anext__(self) -> Any:
        if self._raw is None:
            # Not before: a stream that is refused would leave a generator that never ran.
            self._raw = aiter(self._source)
        return self._parse(await self._admission.next_of(self._raw))


def _parser(handler: Handler, guard: Guard) -> Callable[[bytes], Any]:
    deserialise = handler.request_deserializer
    if deserialise is None:
        return lambda raw: raw

    def parse(raw: bytes) -> Any:
        try:
            message = deserialise(raw)
        except DecodeError as error:
            raise InvalidArgument(
                "The bytes of the request are no message of the method's request type.",
                reason="MALFORMED_REQUEST",
            ) from error
        guard.admit(message)
        return message

    return parse


def _behaviour(handler: Handler, guard: Guard) -> Callable[[Any, Context], Awaitable[Any]]:
    if not handler.response_streaming:
        return handler.stream_unary if handler.request_streaming else handler.unary_unary  # type: ignore[return-value]
    produce = handler.stream_stream if handler.request_streaming else handler.unary_stream
    if not inspect.isasyncgenfunction(produce):
        return produce  # type: ignore[return-value]  # writes to the context itself

    async def write_all(request: Any, context: Context) -> None:
        answers = produce(request, context)
        try:
            async for answer in answers:
                guard.go_on()
                await context.write(answer)
        finally:
            await answers.aclose()

    return write_all
