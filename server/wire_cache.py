"""Answers as they go over the wire, by requests as they come: a worker's own cache.

A request that comes again is answered without being parsed, and its answer without being made.
What an answer depends on stands in the version slots (storage.version_slots), which are compared at
every hit: an answer of before a change is never given after the change was acknowledged on this
host. Callers may allow older ones: these are given, marked, and made anew behind the call.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from penchant.v1 import recommendation_pb2 as pb
from prometheus_client import Counter, Gauge

from storage.tally import Tally
from storage.version_slots import Stamp

LOOKUPS = Counter(
    "penchant_wire_cache_lookups",
    "Requests looked up in the workers' own caches.",
    ["outcome"],
)
"""Outcomes: hit, miss, stale (what it depends on has changed, or it is too old), stale_allowed (the
same, and given because its caller allows that)."""

BYTES = Gauge(
    "penchant_wire_cache_bytes",
    "Memory of the workers' own caches.",
    multiprocess_mode="livesum",
)

_OVERHEAD = 700  # bytes of an entry's objects, measured with tracemalloc
_JITTER = 0.1
_STALE = pb.RecommendResponse(stale=True).SerializeToString()
"""Put behind an answer's bytes it sets the field: messages that are joined are merged."""


_OF_NOTHING = Stamp(0, 0, 0, 0, 0, 0, 0, 0)
"""Where nothing is kept."""


class Versions(Protocol):
    """What answers depend on, without waiting."""

    def stamp(self, tenant_id: str, user_id: str) -> Stamp:
        """As it stands now, for an answer to a user; "" is nobody."""
        ...

    def holds(self, stamp: Stamp) -> bool:
        """Whether it still stands so, as far as one can know."""
        ...

    def stands(self, stamp: Stamp) -> bool:
        """Whether nothing was withdrawn since: what does not hold may be given all the same."""
        ...


@dataclass(slots=True)
class _Entry:
    answer: bytes
    stamp: Stamp
    ends_at: float
    stale_until: float
    asked_again: bool = False


Key: TypeAlias = tuple[str, bytes]
"""The tenant and the request's bytes."""


class WireCache:
    """Ready answers, at most so many bytes of them.

    What makes room is the oldest that was not asked for again since it came to be the oldest: FIFO
    with reinsertion, also called CLOCK (Corbató 1968). A hit moves nothing.

    Args:
        versions: of what the answers depend on.
        limit: bytes, with an estimate of what the entries cost beside the bytes they hold; 0: off.
        life_secs: answers end that long after they were made, or up to a tenth earlier, so that not
            all end together; 0: off.
        renew: has an answer made anew that was given though it does not hold.

    Attributes:
        hits: answers given that hold.
    """

    def __init__(
        self,
        versions: Versions,
        limit: int,
        life_secs: float,
        renew: Callable[[Key], None],
    ) -> None:
        self._versions = versions
        self._limit = limit if life_secs > 0 else 0
        self._life = life_secs
        self._renew = renew
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._size = 0
        self.hits = Tally(LOOKUPS.labels("hit"))
        self._misses = Tally(LOOKUPS.labels("miss"))
        self._stale = LOOKUPS.labels("stale")
        self._allowed = LOOKUPS.labels("stale_allowed")

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._limit > 0

    @property
    def size(self) -> int:
        """Bytes that are taken."""
        return self._size

    def get(self, key: Key) -> bytes | None:
        """The answer, if it still holds, or if its caller allows one as old as it is."""
        entry = self._entries.get(key)
        if entry is None:
            if self.is_on:
                self._misses.add()
            return None
        if not self._versions.holds(entry.stamp) or time.monotonic() >= entry.ends_at:
            return self._old(key, entry)
        entry.asked_again = True
        self.hits.add()
        return entry.answer

    def _old(self, key: Key, entry: _Entry) -> bytes | None:
        if time.monotonic() >= entry.stale_until or not self._versions.stands(entry.stamp):
            self._stale.inc()
            self._remove(key)
            return None
        entry.asked_again = True
        self._allowed.inc()
        self._renew(key)
        return entry.answer + _STALE

    def stamp(self, tenant_id: str, user_id: str) -> Stamp:
        """What an answer to this user ("" is nobody) depends on, as it stands now."""
        if not self.is_on:
            return _OF_NOTHING
        return self._versions.stamp(tenant_id, user_id)

    def put(
        self,
        key: Key,
        answer: bytes,
        stamp: Stamp,
        *,
        age_secs: float = 0.0,
        stale_secs: float = 0.0,
    ) -> None:
        """Keeps an answer.

        Args:
            stamp: taken before anything was read that the answer depends on.
            age_secs: since it was made.
            stale_secs: the age up to which the caller takes it though it does not hold; 0: never.
        """
        cost = len(key[1]) + len(answer) + _OVERHEAD
        left = self._life - age_secs
        if cost > self._limit // 8 or left <= 0 or not self._versions.holds(stamp):
            return
        self._remove(key)
        now = time.monotonic()
        ends_at = now + left * random.uniform(1 - _JITTER, 1)  # noqa: S311 - no secret
        self._entries[key] = _Entry(answer, stamp, ends_at, now - age_secs + stale_secs)
        self._size += cost
        while self._size > self._limit:
            self._make_room()
        BYTES.set(self._size)

    def sweep(self) -> None:
        """Drops what does not hold any more, all of it: after an erasure nothing may stay.

        That means what callers would take though it does not hold, too.
        """
        now = time.monotonic()
        for key, entry in list(self._entries.items()):
            if now >= entry.ends_at or not self._versions.holds(entry.stamp):
                self._remove(key)
        BYTES.set(self._size)

    def _make_room(self) -> None:
        key, entry = next(iter(self._entries.items()))
        if entry.asked_again and self._versions.holds(entry.stamp):
            entry.asked_again = False
            self._entries.move_to_end(key)
        else:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(key[1]) + len(entry.answer) + _OVERHEAD
