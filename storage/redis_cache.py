"""The result cache in Redis: never a record, so that everything that goes wrong is a miss."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar
from zlib import crc32

import redis.asyncio as redis
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

from storage.breaker import Breaker
from storage.config import RedisCacheConfig
from storage.ending import end
from storage.redis_lane import Lane
from storage.tally import Tally

T = TypeVar("T")

_NAME_BYTES = 16
_SEAL_BYTES = _NAME_BYTES + 4

_LARGE_BYTES = 128 << 10
"""From here on a value has a connection to itself: those behind it would wait for all of it."""

LOOKUPS = Counter("penchant_result_cache", "Look-ups in the result cache.", ["outcome"])
"""Outcomes: hit, miss, error (which is a miss too)."""

_ERROR = LOOKUPS.labels("error")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since this process started; `available` is False while the breaker is open."""

    hits: int
    misses: int
    errors: int
    available: bool
    memory_bytes: int


class RedisCache:
    """Bytes by key with a time to live.

    A call waits `operation_timeout_ms` at most, and `connect_timeout_ms` more where it has to
    connect; a value of 128 KiB and more may take that twice. A failure is a miss, counted and
    logged once. After three failures in a row a breaker leaves Redis alone, and only the background
    asks whether it is back. The keys hold every version that an answer depends on, read from
    PostgreSQL before the look-up: so a Redis that is lost, flushed, frozen or old can make answers
    slower and never wrong. A value carries a hash of its key and a checksum of itself, so that
    neither an answer to another question nor a damaged one is taken for one.
    """

    def __init__(self, config: RedisCacheConfig) -> None:
        if config.url is None:
            raise ValueError("RedisCacheConfig.url is not set")
        seconds = config.operation_timeout_ms / 1000
        connect_seconds = config.connect_timeout_ms / 1000
        self._config = config
        self._longest = seconds + connect_seconds
        url = config.url.get_secret_value()
        self._lane = Lane(url, answer_secs=seconds, connect_secs=connect_seconds)
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=seconds,
            socket_connect_timeout=connect_seconds,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._breaker = Breaker("redis")
        self._probe: asyncio.Task[bool] | None = None
        self._keeping: set[asyncio.Task[None]] = set()
        self._hits = Tally(LOOKUPS.labels("hit"))
        self._misses = Tally(LOOKUPS.labels("miss"))
        self._errors = 0

    async def get(self, key: str) -> bytes | None:
        """The value of a key; None when it is not there or Redis does not answer in time."""
        value = None
        if self._allows():
            # As `_tried`, without a coroutine more: most calls come by here.
            try:
                value = await self._value(key)
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
            else:
                self._breaker.succeeded()
        (self._misses if value is None else self._hits).add()
        return value

    async def set(self, key: str, value: bytes, ttl_secs: float | None = None) -> None:
        """Keeps a value for some seconds (default `default_ttl_secs`, at most `max_ttl_secs`)."""
        if not self._allows():
            return
        ttl = min(
            self._config.default_ttl_secs if ttl_secs is None else ttl_secs,
            self._config.max_ttl_secs,
        )
        sealed = _seal(key, value) + value
        await self._tried(self._set(key, sealed, max(1, int(ttl * 1000))))

    def keep(self, key: str, value: bytes, ttl_secs: float | None = None) -> None:
        """As `set`, behind whoever calls: an answer need not wait for Redis to have it."""
        task = asyncio.create_task(self.set(key, value, ttl_secs))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def ping(self) -> bool:
        """Whether Redis answers in time; also what closes an open breaker again."""
        try:
            async with asyncio.timeout(self._longest):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._breaker.failed(error)
            return False
        self._breaker.succeeded()
        return True

    async def stats(self) -> CacheStats:
        """Counters of this process, and the memory that Redis says it uses (0 when away)."""
        memory = 0
        if self._allows():
            told = await self._tried(self._in_time(self._redis.info("memory")))
            memory = int(told["used_memory"]) if told is not None else 0
        return CacheStats(
            self._hits.total,
            self._misses.total,
            self._errors,
            self._breaker.closed,
            memory,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await end(self._probe, *self._keeping)
        self._breaker.forget()
        self._hits.tell()
        self._misses.tell()
        await self._lane.close()
        await self._redis.aclose()

    def _allows(self) -> bool:
        """Whether calls ask Redis; where it is due, the background tries, so that no call waits."""
        if self._breaker.try_due() and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self.ping())
        return self._breaker.closed

    async def _tried(self, asked: Awaitable[T]) -> T | None:
        """What Redis answers; None when it does not, or not in time."""
        try:
            found = await asked
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        self._breaker.succeeded()
        return found

    def _failed(self, error: BaseException) -> None:
        self._errors += 1
        _ERROR.inc()
        self._breaker.failed(error)

    async def _value(self, key: str) -> bytes | None:
        found = await self._lane.ask(b"GETRANGE", key.encode(), b"0", b"%d" % (_LARGE_BYTES - 1))
        if isinstance(found, bytes) and len(found) == _LARGE_BYTES:
            found = await self._in_time(self._redis.get(key))
        if found is None or found == b"":
            return None
        if isinstance(found, bytes):
            value = found[_SEAL_BYTES:]
            if found[:_SEAL_BYTES] == _seal(key, value):
                return value
        # Damaged, or the answer to another question: then the connection has lost its place.
        self._lane.renew()
        await self._redis.connection_pool.disconnect(inuse_connections=False)
        raise InvalidResponse("the value is not the one of the key")

    async def _set(self, key: str, sealed: bytes, ttl_ms: int) -> None:
        if len(sealed) < _LARGE_BYTES:
            await self._lane.ask(b"SET", key.encode(), sealed, b"PX", b"%d" % ttl_ms)
        else:
            await self._in_time(self._redis.set(key, sealed, px=ttl_ms))

    async def _in_time(self, asked: Awaitable[T]) -> T:
        async with asyncio.timeout(self._longest):
            return await asked


def _seal(key: str, value: bytes) -> bytes:
    name = blake2b(key.encode(), digest_size=_NAME_BYTES).digest()
    return name + crc32(value).to_bytes(_SEAL_BYTES - _NAME_BYTES, "big")
