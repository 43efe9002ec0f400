"""Cached answers looked for by their names and removed, as an erasure needs it."""

from collections.abc import AsyncIterator

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from storage.config import RedisCacheConfig
from storage.exceptions import Unavailable

_TIMEOUT_SECS = 5.0
_TRIES = 3
_AT_ONCE = 1000


class CachedAnswers:
    """Goes through all names in Redis, some milliseconds for 10,000: for what is rare.

    Unlike `storage.redis_cache.RedisCache` it waits, and tells when Redis is away: an erasure must
    not take an entry that it could not look for as gone.
    """

    def __init__(self, config: RedisCacheConfig) -> None:
        self._config = config

    async def count(self, prefix: str) -> int:
        """How many entries have a name that begins so.

        Raises:
            Unavailable: Redis does not answer.
        """
        try:
            async with self._client() as client:
                return sum([len(names) async for names in _names(client, prefix)])
        except (RedisError, OSError, TimeoutError) as error:
            raise _away() from error

    async def remove(self, prefix: str) -> int:
        """Removes the entries whose name begins so; returns how many there were.

        Raises:
            Unavailable: Redis does not answer.
        """
        removed = 0
        try:
            async with self._client() as client:
                async for names in _names(client, prefix):
                    removed += await client.unlink(*names)
        except (RedisError, OSError, TimeoutError) as error:
            raise _away() from error
        return removed

    def _client(self) -> redis.Redis:
        if self._config.url is None:
            raise ValueError("RedisCacheConfig.url is not set")
        return redis.Redis.from_url(
            self._config.url.get_secret_value(),
            socket_timeout=_TIMEOUT_SECS,
            socket_connect_timeout=_TIMEOUT_SECS,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), _TRIES),
        )


async def _names(client: redis.Redis, prefix: str) -> AsyncIterator[list[bytes | str]]:
    cursor = 0
    while True:
        cursor, names = await client.scan(cursor, match=f"{prefix}*", count=_AT_ONCE)
        if names:
            yield names
        if not cursor:
            return


def _away() -> Unavailable:
    return Unavailable("Redis does not answer.", retry_after=1.0)
