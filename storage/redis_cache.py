"""The result cache in Redis: never a record, so that everything that goes wrong is a miss."""

import time
from dataclasses import dataclass

import redis.asyncio as redis
import structlog
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from storage.config import RedisCacheConfig

_FAILURES_TO_OPEN = 3
_FIRST_PAUSE_SECS = 0.5
_LONGEST_PAUSE_SECS = 10.0

LOOKUPS = Counter("penchant_result_cache", "Look-ups in the result cache.", ["outcome"])
"""Outcomes: hit, miss, error (which is a miss too)."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since this process started; `available` is False while the breaker is open."""

    hits: int
    misses: int
    errors: int
    available: bool
    memory_bytes: int


class _Breaker:
    """Leaves Redis alone for a while after failures, longer each time, then lets one call probe."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = _FIRST_PAUSE_SECS
        self._open_until = 0.0

    @property
    def closed(self) -> bool:
        return self._failures < _FAILURES_TO_OPEN

    def allows(self) -> bool:
        if self.closed:
            return True
        now = time.monotonic()
        if now < self._open_until:
            return False
        self._open_until = now + self._pause  # one probe; the others wait for its outcome
        return True

    def succeeded(self) -> None:
        if not self.closed:
            log.info("redis is back")
        self._failures = 0
        self._pause = _FIRST_PAUSE_SECS

    def failed(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures < _FAILURES_TO_OPEN:
            return
        if self._failures == _FAILURES_TO_OPEN:
            log.warning("redis is left alone after failures", error=type(error).__name__)
        self._open_until = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECS)


class RedisCache:
    """Bytes by key with a time to live.

    A call waits `operation_timeout_ms` at most; a failure is a miss, counted and logged once. The
    keys hold every version that an answer depends on, read from PostgreSQL before the look-up: so a
    Redis that is lost, flushed, frozen or old can make answers slower and never wrong.
    """

    def __init__(self, config: RedisCacheConfig) -> None:
        if config.url is None:
            raise ValueError("RedisCacheConfig.url is not set")
        seconds = config.operation_timeout_ms / 1000
        self._config = config
        self._redis = redis.Redis.from_url(
            config.url.get_secret_value(),
            socket_timeout=seconds,
            socket_connect_timeout=config.connect_timeout_ms / 1000,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._breaker = _Breaker()
        self._hits = self._misses = self._errors = 0

    async def get(self, key: str) -> bytes | None:
        """The value of a key; None when it is not there or Redis does not answer in time."""
        value: bytes | None = None
        if self._breaker.allows():
            try:
                found = await self._redis.get(key)
                value = found if isinstance(found, bytes) else None
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
            else:
                self._breaker.succeeded()
        if value is None:
            self._misses += 1
        else:
            self._hits += 1
        LOOKUPS.labels("miss" if value is None else "hit").inc()
        return value

    async def set(self, key: str, value: bytes, ttl_secs: float | None = None) -> None:
        """Keeps a value for some seconds (default `default_ttl_secs`, at most `max_ttl_secs`)."""
        if not self._breaker.allows():
            return
        ttl = min(
            self._config.default_ttl_secs if ttl_secs is None else ttl_secs,
            self._config.max_ttl_secs,
        )
        try:
            await self._redis.set(key, value, px=max(1, int(ttl * 1000)))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
        else:
            self._breaker.succeeded()

    async def ping(self) -> bool:
        """Whether Redis answers in time; also what closes an open breaker again."""
        try:
            await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._breaker.failed(error)
            return False
        self._breaker.succeeded()
        return True

    async def stats(self) -> CacheStats:
        """Counters of this process, and the memory that Redis says it uses (0 when away)."""
        memory = 0
        if self._breaker.allows():
            try:
                memory = int((await self._redis.info("memory"))["used_memory"])
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
            else:
                self._breaker.succeeded()
        return CacheStats(self._hits, self._misses, self._errors, self._breaker.closed, memory)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    def _failed(self, error: BaseException) -> None:
        self._errors += 1
        LOOKUPS.labels("error").inc()
        self._breaker.failed(error)
