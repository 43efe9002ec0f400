"""Two hosts with one Redis: what changes on one stops holding on the other."""

import asyncio
import time

import redis

from storage.config import RedisCacheConfig
from storage.version_relay import relaying
from storage.version_slots import Stamp, VersionSlots
from tests.faults.conftest import socket_of
from tests.faults.proxy import proxied
from tests.waiting import until


async def linked(slots: VersionSlots) -> Stamp:
    """A stamp that holds."""
    stamp = slots.stamp("a", "ada")

    def holds() -> bool:
        nonlocal stamp
        if slots.holds(stamp):
            return True
        stamp = slots.stamp("a", "ada")
        return False

    await until(holds)
    return stamp


async def test_change_on_one_host_is_heard_on_the_other(redis_url: str) -> None:
    config = RedisCacheConfig(url=redis_url)
    here, there = VersionSlots(several_hosts=True), VersionSlots(several_hosts=True)
    assert not here.holds(here.stamp("a", "ada"))
    async with relaying(here, config), relaying(there, config):
        await linked(here)
        # The first word of a host that was not heard before ends everything.
        await asyncio.sleep(0.3)
        stamp, other = await linked(there), there.stamp("a", "ben")
        here.tell("a", ["ada"])
        await until(lambda: not there.holds(stamp))
        await until(lambda: there.holds(other))
        here.tell("a")
        await until(lambda: not there.holds(other))


async def test_host_that_falls_silent_ends_what_others_keep(redis_url: str) -> None:
    config = RedisCacheConfig(url=redis_url)
    here, there = VersionSlots(several_hosts=True), VersionSlots(several_hosts=True)
    async with relaying(there, config):
        async with relaying(here, config):
            await linked(here)
            await asyncio.sleep(0.3)
            await linked(there)
        await until(lambda: not there.holds(there.stamp("a", "ada")))
        silent_since = time.monotonic()
        await linked(there)
        # It may be cut off and go on changing things: not before it is taken for gone.
        assert time.monotonic() - silent_since > 5


async def test_nothing_holds_while_redis_is_away_or_after_it(redis_url: str) -> None:
    config = RedisCacheConfig(url=redis_url)
    slots = VersionSlots(several_hosts=True)
    async with relaying(slots, config):
        stamp = await linked(slots)
        with redis.Redis.from_url(redis_url) as client:
            client.execute_command("CLIENT", "PAUSE", "1000", "ALL")
        await until(lambda: not slots.holds(slots.stamp("a", "ada")))
        with redis.Redis.from_url(redis_url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        # What was said while nobody listened was not heard: only what is made from then on holds.
        await until(lambda: not slots.holds(stamp) and slots.holds(slots.stamp("a", "ada")))


async def test_link_that_is_back_waits_for_a_host_that_is_still_cut_off(redis_url: str) -> None:
    here, there = VersionSlots(several_hosts=True), VersionSlots(several_hosts=True)
    async with proxied(socket_of(redis_url)) as proxy:
        cut_off = RedisCacheConfig(url=f"redis://127.0.0.1:{proxy.port}/0")
        async with relaying(here, RedisCacheConfig(url=redis_url)), relaying(there, cut_off):
            await linked(there)
            await asyncio.sleep(0.3)
            await linked(here)
            proxy.freeze()
            silent_since = time.monotonic()
            with redis.Redis.from_url(redis_url) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: not here.holds(here.stamp("a", "ada")))
            await linked(here)
            # Not before the other is taken for gone.
            assert time.monotonic() - silent_since > 5


async def test_one_host_alone_needs_no_redis() -> None:
    slots = VersionSlots()
    assert slots.holds(slots.stamp("a", "ada"))
