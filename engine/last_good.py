"""The last good answers of this worker: what is given while PostgreSQL is away."""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from prometheus_client import Counter

from engine.answers import Answer, Item, pack_answer, unpack_answer
from engine.requests import RecommendQuery

POSTGRESQL = "postgresql"
"""What a degraded answer says could not take part."""

DEGRADED_ANSWERS = Counter(
    "penchant_degraded_answers", "Answers given without a component.", ["component", "answer"]
)
"""Answers: last_good, the request's own former answer; popular, the tenant's list."""

_MAX_BYTES = 18 * 1024 * 1024
_ENTRY_BYTES = 600  # of an entry beside its answer: keys, links, hashes
_FORGOTTEN = 100_000
_POPULAR_REFRESH_SECS = 30.0

_Key = tuple[int, bytes, int]


class _Entry(NamedTuple):
    packed: bytes
    at: float
    user: tuple[int, str]
    transaction_id: int


class LastGood:
    """Answers by tenant and request, as they were last checked against PostgreSQL.

    Kept in memory, packed, the least recently given ones dropped first. Beside them a list of what
    is popular a tenant and entity type, for requests that were not answered before.

    Args:
        max_age_secs: older answers are not given; 0: none are kept.
        max_bytes: memory for all of them.
        clock: seconds, for tests of ages.
    """

    def __init__(
        self,
        max_age_secs: float = 3600.0,
        *,
        max_bytes: int = _MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age = max_age_secs
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._of_user: dict[tuple[int, str], set[_Key]] = {}
        self._popular_due: dict[_Key, float] = {}
        self._forgotten: OrderedDict[tuple[int, str], None] = OrderedDict()
        self._newest = float("-inf")
        self.bytes = 0

    def keep(
        self, tenant_no: int, query: RecommendQuery, packed: bytes, transaction_id: int
    ) -> None:
        """Keeps an answer that has just been found right.

        Args:
            packed: as `pack_answer` makes it.
            transaction_id: of the snapshot that it was checked against.
        """
        user = (tenant_no, query.user_id)
        if self._max_age > 0 and user not in self._forgotten:
            entry = _Entry(packed, self._clock(), user, transaction_id)
            self._put((tenant_no, query.request_hash, query.page_size), entry)

    def popular_due(self, tenant_no: int, entity_type: str) -> bool:
        """Whether the popular list of a type ("": all) is to be read anew; says so once a while."""
        key = _popular_key(tenant_no, entity_type)
        now = self._clock()
        if self._max_age <= 0 or now < self._popular_due.get(key, now):
            return False
        if len(self._popular_due) >= _FORGOTTEN:
            self._popular_due.clear()
        self._popular_due[key] = now + _POPULAR_REFRESH_SECS
        return True

    def keep_popular(self, tenant_no: int, entity_type: str, items: Sequence[Item]) -> None:
        """Keeps what is popular in a tenant, best first."""
        packed = pack_answer(Answer(items=tuple(items), recommendation_id=uuid.uuid4().hex))
        entry = _Entry(packed, self._clock(), (tenant_no, ""), 0)
        self._put(_popular_key(tenant_no, entity_type), entry)

    def answer(
        self, tenant_no: int, query: RecommendQuery, *, at_least_as_fresh: int = 0
    ) -> Answer | None:
        """The best that can be said without PostgreSQL, marked as degraded; None: nothing.

        The request's own last answer; else, where the request has no filter, names no model and
        no freshness, the tenant's popular list without what is excluded. Neither has later pages.

        Args:
            at_least_as_fresh: a transaction that the answer must know of; 0: none.
        """
        entry = self._get((tenant_no, query.request_hash, query.page_size))
        # A snapshot knows of the transactions below its own number.
        if entry is not None and (
            not at_least_as_fresh or entry.transaction_id > at_least_as_fresh
        ):
            answer = unpack_answer(entry.packed)
            if answer is not None:
                return _degraded(
                    replace(answer, rest=b"", transaction_id=entry.transaction_id), "last_good"
                )
        if at_least_as_fresh or query.filter is not None or query.model_version is not None:
            return None
        return self._popular(tenant_no, query)

    def same(self, tenant_no: int, query: RecommendQuery) -> Answer | None:
        """A request's own last answer, marked as degraded and without later pages, or None."""
        entry = self._get((tenant_no, query.request_hash, query.page_size))
        answer = unpack_answer(entry.packed) if entry is not None else None
        return None if answer is None else _degraded(replace(answer, rest=b""), "last_good")

    def can_answer(self) -> bool:
        """Whether any request could be answered."""
        return bool(self._entries) and self._clock() - self._newest <= self._max_age

    def forget(self, tenant_no: int, user_id: str) -> None:
        """Drops a user's answers and keeps no more of them: the user is being erased.

        An answer that is under way at this moment is not kept either. What was answered for nobody
        in particular stays.
        """
        user = (tenant_no, user_id)
        if not user_id:
            return
        self._forgotten[user] = None
        if len(self._forgotten) > _FORGOTTEN:
            self._forgotten.popitem(last=False)
        for key in tuple(self._of_user.get(user, ())):
            self._drop(key)

    def users_of(self, tenant_no: int) -> list[str]:
        """The users of a tenant whose answers are kept."""
        return [user_id for number, user_id in self._of_user if number == tenant_no and user_id]

    def forget_tenant(self, tenant_no: int) -> None:
        """Drops all of a tenant's answers."""
        for key in [key for key in self._entries if key[0] == tenant_no]:
            self._drop(key)

    def _popular(self, tenant_no: int, query: RecommendQuery) -> Answer | None:
        entry = self._get(_popular_key(tenant_no, query.entity_type))
        listed = unpack_answer(entry.packed) if entry is not None else None
        if listed is None:
            return None
        without = {*query.exclude, *query.context}
        least = query.min_score
        items = [
            item
            for item in listed.items
            if (item.entity_type, item.entity_id) not in without
            and (least is None or item.score >= least)
        ]
        if not items:
            return None
        return _degraded(replace(listed, items=tuple(items[: query.page_size])), "popular")

    def _get(self, key: _Key) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.at > self._max_age:
            return None
        self._entries.move_to_end(key)
        return entry

    def _put(self, key: _Key, entry: _Entry) -> None:
        if key in self._entries:
            self._drop(key)
        self._entries[key] = entry
        self._of_user.setdefault(entry.user, set()).add(key)
        self.bytes += len(entry.packed) + _ENTRY_BYTES
        self._newest = entry.at
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key)
        self.bytes -= len(entry.packed) + _ENTRY_BYTES
        keys = self._of_user[entry.user]
        keys.discard(key)
        if not keys:
            del self._of_user[entry.user]


def _popular_key(tenant_no: int, entity_type: str) -> _Key:
    # No request has that page size.
    return (tenant_no, entity_type.encode(), -1)


def _degraded(answer: Answer, kind: str) -> Answer:
    DEGRADED_ANSWERS.labels(POSTGRESQL, kind).inc()
    return replace(answer, degraded=(POSTGRESQL,), cached=True)
