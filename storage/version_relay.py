"""Version slots over several hosts: each tells the others by Redis what has changed on it.

Every host says every few hundredths of a second what has changed since the last time, or that
nothing has. Whoever does not hear itself has lost Redis; whoever misses a host that it heard before
may miss its changes. Both stop using what they keep until they hear again, and then start anew.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from storage.config import RedisCacheConfig
from storage.ending import end
from storage.version_slots import VersionSlots

_CHANNEL = "penchant:versions"
_BEAT_SECS = 0.025
_SILENCE_SECS = 0.1
_GONE_SECS = 10.0
_PAUSE_SECS = 0.2
_ALL = b"*"
_SOME = b"+"

_log = structlog.get_logger(__name__)


class VersionRelay:
    """Tells and hears, until cancelled; one a host.

    Args:
        slots: this host's.
        config: Redis, with its URL.
    """

    def __init__(self, slots: VersionSlots, config: RedisCacheConfig) -> None:
        if config.url is None:
            raise ValueError("RedisCacheConfig.url is not set")
        self._slots = slots
        self._url = config.url.get_secret_value()
        self._me = secrets.token_bytes(8)
        self._heard: dict[bytes, float] = {}
        self._told = slots.numbers_here()
        self._all = True

    async def run(self) -> None:
        """Keeps the link up for ever."""
        linked = True
        while True:
            try:
                async with self._client() as client, client.pubsub() as channel:
                    await channel.subscribe(_CHANNEL)
                    # What was said while nobody listened is lost. Others that were heard before may
                    # be cut off still, and change things: they are waited for.
                    self._heard.pop(self._me, None)
                    self._all = True
                    self._slots.tell_elsewhere(None)
                    _log.info("hears of other hosts")
                    linked = True
                    await self._relay(client, channel)
            except (RedisError, OSError, TimeoutError) as error:
                if linked:
                    _log.warning("does not hear of other hosts", error=type(error).__name__)
                linked = False
                await asyncio.sleep(_PAUSE_SECS)

    async def _relay(self, client: redis.Redis, channel: redis.client.PubSub) -> None:
        telling = asyncio.create_task(self._tell_for_ever(client))
        try:
            while True:
                if telling.done():
                    await telling
                message = await channel.get_message(
                    ignore_subscribe_messages=True, timeout=_BEAT_SECS
                )
                if message is not None:
                    self._hear(message["data"])
                self._link()
        finally:
            await end(telling)

    async def _tell_for_ever(self, client: redis.Redis) -> None:
        while True:
            now = self._slots.numbers_here()
            changed = np.flatnonzero(now != self._told).astype(np.uint32)
            news = _ALL if self._all else _SOME + changed.tobytes()
            await client.publish(_CHANNEL, self._me + news)
            self._told, self._all = now, False
            await asyncio.sleep(_BEAT_SECS)

    def _hear(self, message: bytes) -> None:
        host, kind, body = message[:8], message[8:9], message[9:]
        known = host in self._heard
        self._heard[host] = time.monotonic()
        if host == self._me:
            return
        if not known:
            _log.info("hears of another host")
        if kind == _ALL or not known:
            self._slots.tell_elsewhere(None)
        elif body:
            self._slots.tell_elsewhere(np.frombuffer(body, np.uint32))

    def _link(self) -> None:
        """What is kept holds until somebody has been silent for too long."""
        now = time.monotonic()
        for host in [h for h, at in self._heard.items() if now - at > _GONE_SECS]:
            _log.info("a host is gone")
            del self._heard[host]
        if self._me in self._heard:
            self._slots.linked_for(min(self._heard.values()) + _SILENCE_SECS - now)

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(
            self._url,
            socket_timeout=_SILENCE_SECS * 10,
            socket_connect_timeout=_SILENCE_SECS * 10,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )


@asynccontextmanager
async def relaying(slots: VersionSlots, config: RedisCacheConfig) -> AsyncIterator[None]:
    """Keeps a host's version slots in step with other hosts' while the block runs."""
    task = asyncio.create_task(VersionRelay(slots, config).run())
    try:
        yield
    finally:
        await end(task)
        slots.linked_for(0)
