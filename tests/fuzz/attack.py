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

FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
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
        chance = self._chance
        unary = not method.client_streams
        broken = unary and chance.random() < 0.01  # no message, or two
        count = chance.choice((0, 2)) if broken else 1 if unary else chance.randint(0, 4)
        tenant = None
        following = self._following[method.path]
        if following and chance.random() < 0.3:
            request, tenant = following.popleft()
            requests = [request]
        elif method.path.endswith("/ImportModel") and chance.random() < 0.5:
            requests = [
                raw if chance.random() < 0.8 else mutate(raw, method.asked, chance)
                for raw in self.world.import_
            ]
        else:
            requests = [self._request(method) for _ in range(count)]
        number = next(self._numbers)
        request_id = f"fuzz-{number}"
        path = (
            method.path if chance.random() < 0.995 else chance.choice(("/a/b", method.path + "x"))
        )
        channel = self._channels[number % len(self._channels)]
        seconds = _ENDLESS_SECS if path.endswith(_ENDLESS) else _SECS
        if broken:
            seconds = _ENDLESS_SECS  # gRPC never answers a unary call without a message
        elif chance.random() < 0.02:
            seconds = chance.choice((0.001, 0.005, 0.02))
        self.findings.messages += max(len(requests), 1)
        metadata = self._metadata(request_id, tenant)
        answers: list[bytes] = []
        code, details = grpc.StatusCode.OK, ""
        began = time.monotonic()
        try:
            if unary and not method.server_streams and len(requests) == 1:
                start: Any = channel.unary_unary(path)
                answers = [await start(requests[0], metadata=metadata, timeout=seconds)]
            else:
                many: Any = channel.stream_stream(path)
                call = many(_each(requests), metadata=metadata, timeout=seconds)
                async for answer in call:
                    answers.append(answer)
                    if len(answers) > 100:
                        call.cancel()
                        code = grpc.StatusCode.CANCELLED
                        break
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
        took = time.monotonic() - began
        self.findings.slowest[method.name] = max(self.findings.slowest[method.name], took)
        name = _ENDED_EARLY if details == _ENDED_WHILE_SENDING else code.name
        self.findings.codes[method.name][name] += 1
        rows_failed = any(b"INTERNAL" in answer for answer in answers)
        if (code in FAULTS and name != _ENDED_EARLY) or rows_failed:
            sent = [raw[:2000].hex() for raw in requests]
            self.findings.faults.append(
                Fault(method.path, code.name, details or "a row's error", request_id, sent)
            )
        if answers and len(answers[0]) < 50_000 and chance.random() < 0.3:
            answer = method.response.FromString(answers[0])
            self.world.hear(answer)
            token = getattr(answer, "next_page_token", "")
            if token:
                number = method.asked.fields_by_name["page_token"].number
                following = requests[0] + field_bytes(number, token.encode())
                self._following[method.path].append((following, metadata[1][1]))

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
