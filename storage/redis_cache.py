"""The result cache in Redis: never a record, so that everything that goes wrong is a miss."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b

import redis.asyncio as redis
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

from storage.breaker import Breaker
from storage.config import RedisCacheConfig
from storage.ending import end

_SEAL_BYTES = 16

LOOKUPS = Counter("penchant_result_cache", "Look-ups in the result cache.", ["outcome"])
"""Outcomes: hit, miss, error (which is a miss too)."""


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
    connect; a failure is a miss, counted and logged once. After three failures in a row a breaker
    leaves Redis alone, and only the background asks whether it is back. The keys hold every version
    that an answer depends on, read from PostgreSQL before the look-up: so a Redis that is lost,
    flushed, frozen or old can make answers slower and never wrong. A value carries a hash of its
    key and itself, so that an answer to another question is none either.
    """

    def __init__(self, config: RedisCacheConfig) -> None:
        if config.url is None:
            raise ValueError("RedisCacheConfig.url is not set")
        seconds = config.operation_timeout_ms / 1000
        connect_seconds = config.connect_timeout_ms / 1000
        self._config = config
        self._longest = seconds + connect_seconds
        self._redis = redis.Redis.from_url(
            config.url.get_secret_value(),
            socket_timeout=seconds,
            socket_connect_timeout=connect_seconds,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._breaker = Breaker("redis")
        self._probe: asyncio.Task[bool] | None = None
        self._hits = self._misses = self._errors = 0

    async def get(self, key: str) -> bytes | None:
        """The value of a key; None when it is not there or Redis does not answer in time."""
        value: bytes | None = None
        if self._allows():
            async with self._asking():
                found = await self._redis.get(key)
                if found is not None:
                    value = await self._opened(key, found)
        if value is None:
            self._misses += 1
        else:
            self._hits += 1
        LOOKUPS.labels("miss" if value is None else "hit").inc()
        return value

    async def set(self, key: str, value: bytes, ttl_secs: float | None = None) -> None:
        """Keeps a value for some seconds (default `default_ttl_secs`, at most `max_ttl_secs`)."""
        if not self._allows():
            return
        ttl = min(
            self._config.default_ttl_secs if ttl_secs is None else ttl_secs,
            self._config.max_ttl_secs,
        )
        async with self._asking():
            await self._redis.set(key, _seal(key, value) + value, px=max(1, int(ttl * 1000)))

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
            async with self._asking():
                memory = int((await self._redis.info("memory"))["used_memory"])
        return CacheStats(self._hits, self._misses, self._errors, self._breaker.closed, memory)

    async def close(self) -> None:
        """Closes the connections."""
        await end(self._probe)
        self._breaker.forget()
        await self._redis.aclose()

    def _allows(self) -> bool:
        """Whether calls ask Redis; where it is due, the background tries, so that no call waits."""
        if self._breaker.try_due() and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self.ping())
        return self._breaker.closed

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._longest):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self._errors += 1
            LOOKUPS.labels("error").inc()
            self._breaker.failed(error)
        else:
            self._breaker.succeeded()

    async def _opened(self, key: str, found: object) -> bytes:
        if isinstance(found, bytes) and found[:_SEAL_BYTES] == _seal(key, found[_SEAL_BYTES:]):
            return found[_SEAL_BYTES:]
        # Damaged, or the answer to another question: then the connection has lost its place.
        await self._redis.connection_pool.disconnect(inuse_connections=False)
        raise InvalidResponse("the value is not the one of the key")


def _seal(key: str, value: bytes) -> bytes:
    name = key.encode()
    digest = blake2b(len(name).to_bytes(4, "big") + name, digest_size=_SEAL_BYTES)
    digest.update(value)
    return digest.digest()
