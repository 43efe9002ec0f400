"""Sends spoilt messages by the thousand, and counts what comes back."""

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tests.fuzz.messages import Generator
from tests.fuzz.methods import Method, all_methods
from tests.fuzz.wire import field as field_bytes
from tests.fuzz.wire import mutate, spoil_texts
from tests.fuzz.world import MAIN, OTHER, THROWN_AWAY, World

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""PENCHANT_MAX_MESSAGE_BYTES where nobody sets it."""

FAULTS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})
_ROW_FAILED = b"\x1a\x08INTERNAL"
"""The reason of a RowError, in bytes."""

_MAX_ANSWERS = 100
_ENDED_WHILE_SENDING = "Internal error from Core"
_ENDED_EARLY = "ENDED_EARLY"
"""A stream that the server ended while grpc's client was still sending: the client loses the
status then and says INTERNAL itself. What the server made of it is in the server's log."""

_SECS = 60.0
_ENDLESS_SECS = 1.0
_ENDLESS = ("/WatchTraining", "/Watch", "/WaitOperation")
_STRANGE_TENANTS = ("", "nobody", "MAIN", "main ", "%", "a" * 200, "'", "..")
_STRANGE_KEYS = ("Bearer x", "Basic abc", "", "Bearer pk_aaaaaaaaaaaa_" + "A" * 43, "Bearer a.b.c")


@dataclass
class Fault:
    """A call that ended as none may."""

    method: str
    code: str
    details: str
    request_id: str
    requests: list[str]


@dataclass
class Findings:
    """What calls came to.

    Attributes:
        messages: how many were sent.
        codes: how calls ended, by method.
        faults: INTERNAL, UNKNOWN, and rows of such in answers.
        memory: bytes of the worker, after each batch.
        slowest: seconds of the longest call, by method.
    """

    messages: int = 0
    codes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: list[Fault] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def totals(self) -> Counter[str]:
        return sum(self.codes.values(), Counter())

    def table(self) -> list[str]:
        """A Markdown table: methods by codes."""
        totals = self.totals()
        codes = [code for code, _ in totals.most_common()]
        rows = [["method", *codes], ["-" * 6, *("-" * len(code) for code in codes)]]
        rows += [
            [method, *(str(counts[code] or "") for code in codes)]
            for method, counts in sorted(self.codes.items())
        ]
        rows.append(["all", *(str(totals[code]) for code in codes)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


@dataclass(frozen=True)
class _Planned:
    """A call that is to be made."""

    method: Method
    path: str
    requests: list[bytes]
    metadata: list[tuple[str, str]]
    seconds: float
    request_id: str


class Attack:
    """Callers that send what the generator makes.

    Args:
        channels: calls are spread over them.
        chance: makes all choices but the order of what runs at a time.
    """

    def __init__(
        self, channels: list[grpc.aio.Channel], world: World, chance: random.Random
    ) -> None:
        self.findings = Findings()
        self._channels = channels
        self.world = world
        self._chance = chance
        self._generator = Generator(chance, world.names)
        self._methods = all_methods()
        self._numbers = itertools.count()
        self._following: dict[str, deque[tuple[bytes, str]]] = defaultdict(lambda: deque(maxlen=20))

    async def batch(self, messages: int, concurrency: int) -> None:
        """At least so many messages, the methods in turn."""
        end = self.findings.messages + messages
        turn = itertools.cycle(self._chance.sample(self._methods, len(self._methods)))

        async def caller() -> None:
            while self.findings.messages < end:
                await self._call(next(turn))

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(caller())

    async def _call(self, method: Method) -> None:
        planned = self._plan(method)
        began = time.monotonic()
        answers, code, details = await self._send(planned)
        took = time.monotonic() - began
        found = self.findings
        found.messages += max(len(planned.requests), 1)
        found.slowest[method.name] = max(found.slowest[method.name], took)
        found.codes[method.name][code] += 1
        if code in FAULTS or any(_ROW_FAILED in answer for answer in answers):
            sent = [raw[:2000].hex() for raw in planned.requests]
            details = details or "a row of the answer"
            found.faults.append(Fault(planned.path, code, details, planned.request_id, sent))
        if answers and len(answers[0]) < 50_000 and self._chance.random() < 0.3:
            self._learn(planned, answers[0])

    def _plan(self, method: Method) -> _Planned:
        chance = self._chance
        requests, tenant = self._requests(method)
        path, seconds = method.path, _SECS
        if chance.random() < 0.005:
            path = chance.choice(("/a/b", f"{path}x"))
        if path.endswith(_ENDLESS) or (len(requests) != 1 and not method.client_streams):
            seconds = _ENDLESS_SECS  # gRPC never answers a unary call without a message
        elif chance.random() < 0.02:
            seconds = chance.choice((0.001, 0.005, 0.02))
        request_id = f"fuzz-{next(self._numbers)}"
        metadata = self._metadata(request_id, tenant)
        return _Planned(method, path, requests, metadata, seconds, request_id)

    def _requests(self, method: Method) -> tuple[list[bytes], str | None]:
        """What is sent, and the tenant whom it must be sent for to make sense."""
        chance, following = self._chance, self._following[method.path]
        if following and chance.random() < 0.3:
            raw, tenant = following.popleft()
            return [raw], tenant
        if method.path.endswith("/ImportModel") and chance.random() < 0.5:
            spoilt = (mutate(raw, method.asked, chance) for raw in self.world.import_)
            pairs = zip(self.world.import_, spoilt, strict=True)
            return [raw if chance.random() < 0.8 else bad for raw, bad in pairs], None
        count = chance.randint(0, 4) if method.client_streams else 1
        if not method.client_streams and chance.random() < 0.01:
            count = chance.choice((0, 2))
        return [self._request(method) for _ in range(count)], None

    async def _send(self, planned: _Planned) -> tuple[list[bytes], str, str]:
        """The answers, how the call ended, and what was said of it."""
        channel = self._channels[self.findings.messages % len(self._channels)]
        answers: list[bytes] = []
        options: dict[str, Any] = {"metadata": planned.metadata, "timeout": planned.seconds}
        try:
            if planned.method.is_unary and len(planned.requests) == 1:
                one: Any = channel.unary_unary(planned.path)
                return [await one(planned.requests[0], **options)], "OK", ""
            many: Any = channel.stream_stream(planned.path)
            call = many(_each(planned.requests), **options)
            async for answer in call:
                answers.append(answer)
                if len(answers) > _MAX_ANSWERS:
                    call.cancel()
                    return answers, "CANCELLED", ""
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            early = details == _ENDED_WHILE_SENDING
            return answers, _ENDED_EARLY if early else error.code().name, details
        return answers, "OK", ""

    def _learn(self, planned: _Planned, raw: bytes) -> None:
        """Takes names out of an answer, and asks for its next page some time."""
        answer = planned.method.response.FromString(raw)
        self.world.hear(answer)
        token = getattr(answer, "next_page_token", "")
        if token:
            number = planned.method.asked.fields_by_name["page_token"].number
            request = planned.requests[0] + field_bytes(number, token.encode())
            tenant = dict(planned.metadata)["x-tenant-id"]
            self._following[planned.method.path].append((request, tenant))

    def _metadata(self, request_id: str, same: str | None) -> list[tuple[str, str]]:
        chance, world = self._chance, self.world
        at = chance.random()
        tenant = same or MAIN if at < 0.88 else OTHER if at < 0.92 else chance.choice(THROWN_AWAY)
        if at > 0.98:
            tenant = chance.choice(_STRANGE_TENANTS)
        at = chance.random()
        key = f"Bearer {world.key}"
        if at > 0.985:
            key = chance.choice(_STRANGE_KEYS)
        elif at > 0.96 and world.credentials:
            key = f"Bearer {chance.choice(world.credentials)}"
        return [("authorization", key), ("x-tenant-id", tenant), ("x-request-id", request_id)]

    def _request(self, method: Method) -> bytes:
        """Bytes of a request; never such as would end the run."""
        while True:
            raw = self._bytes(method)
            try:
                request = method.request.FromString(raw)
            except DecodeError:
                return raw
            if self.world.may_be_sent(method.path, request):
                return raw

    def _bytes(self, method: Method) -> bytes:
        chance = self._chance
        at = chance.random()
        if at < 0.02:
            return chance.randbytes(chance.choice((0, 1, 5, 50, 1000)))
        raw = self._generator.message(method.request).SerializeToString()
        if at < 0.022:
            return self._large(raw)
        if at < 0.22:
            raw = mutate(raw, method.asked, chance)
        return spoil_texts(raw, chance)

    def _large(self, raw: bytes) -> bytes:
        """Around the largest that is taken: the message again and again, or nothing."""
        size = MAX_MESSAGE_BYTES + self._chance.choice((-1000, 0, 1, 1_000_000))
        unit = raw or b"\0"
        if self._chance.random() < 0.5:
            return unit * (size // len(unit))
        return unit * min(size // len(unit), 20_000)


async def _each(requests: Iterable[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request
