"""Callers of `benchmarks.freshness`: writers that like, readers that ask for lists, all recorded.

Run as `python -m benchmarks.freshness_calls` with a JSON plan on standard input. Prints a line when
it is ready, and in the end what calls took, as JSON; the history goes to the file `output` of the
plan. Times are of CLOCK_MONOTONIC, which all processes of a machine share.

Every user belongs to one writer, who has one at a time and takes another when that one has liked
most of the catalogue. A like is of the first entity of the list that the user was last given.
Readers ask mostly for the user of the writer with their number. Likes and reads come by the clock;
in a share of the cases the reader with the writer's number asks besides, at once after a like was
acknowledged, with its token and without.
"""

import asyncio
import json
import random
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import grpc
import uvloop
from penchant.v1 import interaction_pb2, recommendation_pb2

from benchmarks.history import OK, Operation, write_history
from benchmarks.paced import READY, due_times

RECOMMEND = "/penchant.v1.RecommendationService/Recommend"
INGEST = "/penchant.v1.InteractionService/IngestInteraction"

_DEADLINE_SECS = 10.0
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
_LEFT = 8  # entities that a user never likes: who has seen all gets seen ones
_OWN_SHARE = 0.7
_FOLLOWED = 0.5
_AT_THE_END = 8
_CACHED_ANSWERS = 4096


def number_of(token: str) -> int:
    """The transaction that a freshness token names; 0 for none."""
    if not token:
        return 0
    return int.from_bytes(urlsafe_b64decode(token + "=" * (-len(token) % 4))[-8:], "big")


@dataclass(slots=True)
class User:
    """What a user's callers know.

    Attributes:
        sent: entities that were liked, acknowledged or not.
        token: of the acknowledged like with the largest transaction.
        listed: the list that was last given.
    """

    name: str
    sent: set[str] = field(default_factory=set)
    token: str = ""
    listed: tuple[str, ...] = ()

    def request(self, token: str, size: int) -> bytes:
        """The request for the whole list."""
        request = recommendation_pb2.RecommendRequest(
            user_id=self.name, page_size=size, at_least_as_fresh=token
        )
        request.attribute_mask.SetInParent()
        return request.SerializeToString()


class Callers:
    """Writers and readers of one process."""

    def __init__(self, plan: dict[str, Any], channels: list[grpc.aio.Channel]) -> None:
        self._plan = plan
        self._metadata = tuple((name, value) for name, value in plan["metadata"])
        self._catalogue: list[str] = plan["catalogue"]
        self._recommend: list[Any] = [channel.unary_unary(RECOMMEND) for channel in channels]
        self._ingest: list[Any] = [channel.unary_unary(INGEST) for channel in channels]
        self._draw = random.Random(plan["seed"])
        self._under_way: set[asyncio.Task[None]] = set()
        self._users: list[User] = []
        self._of_writer = [self._new_user(writer) for writer in self._callers]
        self.history: list[Operation] = []
        self.took_ms: dict[str, list[float]] = {"like": [], "read": [], "last": []}
        self._seen = lru_cache(_CACHED_ANSWERS)(self._parsed)

    @property
    def _callers(self) -> range:
        return range(self._plan["callers"])

    async def by_the_clock(self, begin: float, seconds: float) -> None:
        """Calls when they are due, however long the answers take."""
        end, seed = begin + seconds, self._plan["seed"]
        due = [(at, False) for at in due_times([(begin, end, self._plan["reads"])], seed + 1)]
        due += [(at, True) for at in due_times([(begin, end, self._plan["likes"])], seed + 2)]
        for at, is_like in sorted(due):
            if (left := at - time.monotonic()) > 0:
                await asyncio.sleep(left)
            self._start(self._any_like(at) if is_like else self._any_read(at))
        while self._under_way:
            await asyncio.gather(*self._under_way)

    async def without_pause(self, seconds: float) -> None:
        """Every caller calls again as soon as it is answered."""
        end = time.monotonic() + seconds
        share = self._plan["likes"] / (self._plan["likes"] + self._plan["reads"])

        async def caller() -> None:
            while (now := time.monotonic()) < end:
                like = self._draw.random() < share
                await (self._any_like(now) if like else self._any_read(now))

        await asyncio.gather(*(caller() for _ in range(2 * len(self._callers))))

    async def at_the_end(self) -> None:
        """Reads of every user that was liked for, with a token."""
        users = iter([user for user in self._users if user.sent])

        async def reader(number: int) -> None:
            for user in users:
                await self._read(number, user, user.token, time.monotonic(), "last")

        await asyncio.gather(*(reader(number) for number in range(_AT_THE_END)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _new_user(self, writer: int) -> User:
        user = User(f"{self._plan['name']}-{writer}-{len(self._users)}")
        self._users.append(user)
        return user

    async def _any_read(self, due: float) -> None:
        reader = self._draw.choice(self._callers)
        own = self._draw.random() < _OWN_SHARE
        user = self._of_writer[reader if own else self._draw.choice(self._callers)]
        with_token = self._draw.random() < self._plan["tokens"]
        await self._read(reader, user, user.token if with_token else "", due)

    async def _any_like(self, due: float) -> None:
        writer = self._draw.choice(self._callers)
        user = self._of_writer[writer]
        if not user.listed:
            await self._read(writer, user, "", due)
        entity = next((name for name in user.listed if name not in user.sent), None)
        if entity is None:
            return
        user.sent.add(entity)
        if len(user.sent) >= len(self._catalogue) - _LEFT:
            self._of_writer[writer] = self._new_user(writer)
        if await self._like(writer, user, entity, due) and self._draw.random() < _FOLLOWED:
            now = time.monotonic()
            self._start(self._read(writer, user, "", now))
            self._start(self._read(writer, user, user.token, now))

    async def _like(self, writer: int, user: User, entity: str, due: float) -> bool:
        request = interaction_pb2.IngestInteractionRequest()
        request.interaction.user_id = user.name
        request.interaction.entity.entity_type = self._plan["entity_type"]
        request.interaction.entity.entity_id = entity
        request.interaction.interaction_type = self._plan["interaction_type"]
        connection = self._draw.randrange(len(self._ingest))
        begin = time.monotonic()
        status, raw = await self._call(self._ingest[connection], request.SerializeToString())
        end = time.monotonic()
        token = ""
        if status == OK:
            token = interaction_pb2.IngestInteractionResponse.FromString(raw).ack.freshness_token
            if number_of(token) > number_of(user.token):
                user.token = token
            self.took_ms["like"].append((end - due) * 1000)
        caller = f"{self._plan['name']} writer {writer}"
        self._note(
            Operation(
                "like", begin, end, caller, connection, user.name, status,
                entity=entity, token=number_of(token),
            )
        )  # fmt: skip
        return status == OK

    async def _read(
        self,
        reader: int,
        user: User,
        token: str,
        due: float,
        kind: Literal["read", "last"] = "read",
    ) -> None:
        connection = self._draw.randrange(len(self._recommend))
        body = user.request(token, len(self._catalogue))
        begin = time.monotonic()
        status, raw = await self._call(self._recommend[connection], body)
        end = time.monotonic()
        seen: tuple[str, ...] = ()
        fresh = 0
        if status == OK:
            status, user.listed, seen, fresh = self._seen(raw)
            self.took_ms[kind].append((end - due) * 1000)
        caller = f"{self._plan['name']} reader {reader}"
        self._note(
            Operation(
                kind, begin, end, caller, connection, user.name, status,
                token=number_of(token), seen=seen, fresh=fresh,
            )
        )  # fmt: skip

    async def _call(self, call: Any, body: bytes) -> tuple[str, bytes]:
        try:
            return OK, await call(body, metadata=self._metadata, timeout=_DEADLINE_SECS)
        except grpc.aio.AioRpcError as error:
            return error.code().name, b""

    def _note(self, operation: Operation) -> None:
        self.history.append(operation)

    def _parsed(self, raw: bytes) -> tuple[str, tuple[str, ...], tuple[str, ...], int]:
        """An answer's status, its list, what that lacks, and how fresh it is."""
        answer = recommendation_pb2.RecommendResponse.FromString(raw)
        listed = tuple(item.entity.entity_id for item in answer.items)
        given = set(listed)
        seen = tuple(name for name in self._catalogue if name not in given)
        status = "DEGRADED" if answer.degraded else OK
        return status, listed, seen, number_of(answer.freshness_token)


@asynccontextmanager
async def connected(plan: dict[str, Any]) -> AsyncIterator[Callers]:
    """The callers of a plan, over open connections."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(plan["target"], options=[_OWN_CONNECTION])
            )
            for _ in range(plan["connections"])
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield Callers(plan, channels)


async def drive(plan: dict[str, Any]) -> Callers:
    """Does what the plan says, beginning when a line comes."""
    async with connected(plan) as callers:
        print(READY, flush=True)
        begin = float(await asyncio.to_thread(sys.stdin.readline))
        if plan["closed"]:
            await callers.without_pause(plan["seconds"])
        else:
            await callers.by_the_clock(begin, plan["seconds"])
            await callers.at_the_end()
        return callers


def main() -> None:
    """Reads the plan, drives, prints what was measured."""
    plan = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        callers = runner.run(drive(plan))
    write_history(Path(plan["output"]), callers.history)
    print(json.dumps(callers.took_ms))


if __name__ == "__main__":
    main()
