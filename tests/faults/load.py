"""Writers and readers that go on whatever happens, by the published client and its repetitions."""

import asyncio
import itertools
import operator
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

from penchant import (
    Cancelled,
    Client,
    DeadlineExceeded,
    EntityDraft,
    Interaction,
    PenchantError,
    Unavailable,
)

from tests.faults.ledger import Ledger, Like
from tests.waiting import until

FILMS = [f"f{number:03}" for number in range(120)]
_KNOWN = frozenset(FILMS)
_LIKES_A_USER = 30
_WRITERS, _STREAMS, _READERS = 4, 1, 3
_BATCH, _BATCHES = 5, 20
_CALL_SECS = 10.0
_THINKING_SECS = 0.06
_AFTER_FAILURE_SECS = 0.1
_PATIENCE_SECS = 60.0
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def caller(target: str) -> Client:
    """A client with a connection of its own; gRPC shares one between equal channels otherwise."""
    return Client(target, tenant="default", timeout=_CALL_SECS, options=_OWN_CONNECTION)


async def add_films(target: str) -> None:
    """The catalogue that everybody likes films of."""
    drafts = (
        EntityDraft("film", film, {"genre": ("war", "noir", "western")[n % 3], "year": 1900 + n})
        for n, film in enumerate(FILMS)
    )
    async with caller(target) as client:
        assert (await client.batch_upsert_entities(drafts)).upserted_count == len(FILMS)


class Load:
    """The callers of one fault."""

    def __init__(self, target: str, ledger: Ledger, chance: random.Random) -> None:
        self.ledger = ledger
        self._target = target
        self._chance = chance
        self._ending = False
        self._progress = [0] * (_WRITERS + _READERS)

    async def advanced(self, steps: int = 2) -> None:
        """Until every writer and reader had so many more answers."""
        goal = [done + steps for done in self._progress]
        await until(lambda: all(map(operator.ge, self._progress, goal)), _PATIENCE_SECS)

    async def write(self, number: int) -> None:
        """Likes one film after the other; one of two that fail is sent again until it is stored."""
        async with caller(self._target) as client:
            for like in self._likes(f"{self.ledger.name}-w{number}"):
                self.ledger.send(like)
                while not await self._stored(client, like):
                    await asyncio.sleep(_AFTER_FAILURE_SECS)
                    if self._chance.random() < 0.5:
                        break  # nobody will ever know whether it is stored
                self._progress[number] += like.id in self.ledger.acked
                await asyncio.sleep(_THINKING_SECS)

    def _likes(self, name: str) -> Iterator[Like]:
        """Of new users all the time, of whom each likes a film once."""
        for number in itertools.count():
            if self._ending:
                return
            user, at = divmod(number, _LIKES_A_USER)
            film = FILMS[(7 * user + at) % len(FILMS)]
            yield Like(f"{name}-{number}", f"{name}-{user}", film)

    async def _stored(self, client: Client, like: Like) -> bool:
        try:
            ack = await client.ingest(like.user, "film", like.film, "like", interaction_id=like.id)
        except PenchantError as error:
            self._failed(error)
            return False
        self.ledger.acknowledge(like, ack.freshness_token)
        return True

    async def stream(self, number: int) -> None:
        """Sends batches; what a stream that broke did not acknowledge goes into the next one."""
        likes = self._likes(f"{self.ledger.name}-s{number}")
        unsent: list[Like] = []
        async with caller(self._target) as client:
            while rows := unsent or list(itertools.islice(likes, _BATCH * _BATCHES)):
                for like in rows:
                    self.ledger.send(like)
                unsent = await self._stream_once(client, rows)
                await asyncio.sleep(_AFTER_FAILURE_SECS)

    async def _stream_once(self, client: Client, rows: list[Like]) -> list[Like]:
        """Those that were not acknowledged."""
        batches = [rows[at : at + _BATCH] for at in range(0, len(rows), _BATCH)]

        async def slowly() -> AsyncIterator[list[Interaction]]:
            for batch in batches:
                yield [
                    Interaction(like.user, "film", like.film, "like", interaction_id=like.id)
                    for like in batch
                ]
                await asyncio.sleep(_THINKING_SECS)

        done = 0
        try:
            async for ack in client.ingest_stream(slowly(), timeout=_PATIENCE_SECS):
                if ack.errors or ack.stored_count + ack.duplicate_count != len(batches[done]):
                    self.ledger.wrong.append(f"ack of a batch: {ack}")
                for like in batches[done]:
                    self.ledger.acknowledge(like, ack.freshness_token)
                done += 1
        except PenchantError:
            self.ledger.streams_ended += 1
        return [like for batch in batches[done:] for like in batch]

    async def read(self, number: int) -> None:
        """Asks for users of the last minutes; nothing that they liked may come back."""
        async with caller(self._target) as client:
            while not self._ending:
                await asyncio.sleep(_THINKING_SECS)
                users = list(self.ledger.seen)[-20:]
                if not users:
                    continue
                self._progress[_WRITERS + number] += await self._read(
                    client, self._chance.choice(users)
                )

    async def _read(self, client: Client, user: str) -> bool:
        seen = frozenset(self.ledger.seen[user])
        fresh = self._chance.random() < 0.5
        token = self.ledger.token[user] if fresh else ""
        try:
            answer = await client.recommend(
                user_id=user, entity_type="film", page_size=20, at_least_as_fresh=token
            )
        except PenchantError as error:
            self._failed(error)
            await asyncio.sleep(_AFTER_FAILURE_SECS)
            return False
        self.ledger.answers += 1
        self.ledger.degraded += bool(answer.degraded)
        items = [item.entity.entity_id for item in answer]
        # A degraded answer may be old, but not older than the token that came along.
        forbidden = seen if fresh or not answer.degraded else frozenset()
        right = items and len(set(items)) == len(items) and set(items) <= _KNOWN - forbidden
        if not right:
            self.ledger.wrong.append(
                f"{user} was told {items} (degraded {answer.degraded}, token {fresh}), saw {seen}"
            )
        return not answer.degraded

    def _failed(self, error: PenchantError) -> None:
        self.ledger.failed[str(error)] += 1
        if not isinstance(error, Unavailable | DeadlineExceeded | Cancelled):
            self.ledger.wrong.append(f"a call ended with {error.code.name}: {error}")

    def end(self) -> None:
        """Nothing new is begun."""
        self._ending = True


@asynccontextmanager
async def under_load(target: str, ledger: Ledger, chance: random.Random) -> AsyncIterator[Load]:
    """The callers work for the block; afterwards no call of theirs is under way."""
    load = Load(target, ledger, chance)
    works: list[Coroutine[Any, Any, None]] = [
        *(load.write(number) for number in range(_WRITERS)),
        *(load.stream(number) for number in range(_STREAMS)),
        *(load.read(number) for number in range(_READERS)),
    ]
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await load.advanced()
        yield load
        load.end()
        await asyncio.wait_for(asyncio.gather(*tasks), 2 * _PATIENCE_SECS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
