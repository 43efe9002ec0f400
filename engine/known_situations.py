"""What answers for users started from, for who asks for another one before anything has changed.

A page often wants several lists for its user at once, each by a request of its own.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Gauge

from engine.known_catalogue import size_of
from storage.situations import Situation, Versions
from storage.tenants import Tenant

BYTES = Gauge(
    "penchant_known_situations_bytes",
    "Memory of what the workers remember of users who were answered lately.",
    multiprocess_mode="livesum",
)

_LIFE_SECS = 60.0
"""What no version tells of, such as the segment that a user was put into, shows after that."""

# Bytes, as tracemalloc has them, without vectors and neighbours.
_OF_ONE = 1_500
_OF_A_MET = 450


@dataclass(frozen=True, slots=True)
class _Known:
    versions: Versions
    situation: Situation
    for_model: bool
    read_at: float
    size: int


class KnownSituations:
    """Situations of users without a request's context, the last ones that were asked for.

    Args:
        limit: bytes, as estimated; who was asked for longest ago goes first. 0: none are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[int, str], _Known] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(
        self, tenant: Tenant, user_id: str, versions: Versions, *, for_model: bool
    ) -> Situation | None:
        """The situation that came with these very versions, as it is now; None: it is to be read.

        Args:
            versions: the object that `engine.versions` gives for as long as nothing has changed.
            for_model: whether it is to be one for a model's answer.
        """
        name = (tenant.tenant_no, user_id)
        known = self._known.get(name)
        if known is None:
            return None
        passed = time.monotonic() - known.read_at
        if known.versions is not versions or passed >= _LIFE_SECS:
            self._forget(name)
            return None
        if known.for_model is not for_model:
            return None
        self._known.move_to_end(name)
        situation = known.situation
        return situation._replace(read_at=situation.read_at + timedelta(seconds=passed))

    def keep(
        self,
        tenant: Tenant,
        user_id: str,
        versions: Versions,
        situation: Situation,
        *,
        for_model: bool,
    ) -> None:
        """Remembers a situation that was read just now.

        Args:
            versions: what `engine.versions` gives for the user; one of another state is not kept.
        """
        if self._limit <= 0 or _state(versions) != _state(situation.versions):
            return
        size = _size(situation)
        name = (tenant.tenant_no, user_id)
        self._forget(name)
        if size > self._limit // 4:
            return
        self._known[name] = _Known(versions, situation, for_model, time.monotonic(), size)
        self._size += size
        while self._size > self._limit:
            self._forget(next(iter(self._known)))
        BYTES.set(self._size)

    def clear(self) -> None:
        """Forgets everybody: somebody was erased."""
        self._known.clear()
        self._size = 0
        BYTES.set(0)

    def _forget(self, name: tuple[int, str]) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            self._size -= known.size
            BYTES.set(self._size)


def _state(versions: Versions) -> tuple[int, int, int]:
    return versions.catalogue_revision, versions.revision, versions.model_revision


def _size(situation: Situation) -> int:
    history = situation.user.history
    vectors = sum(item.vector.nbytes for item in history if item.vector is not None)
    neighbours = sum(map(size_of, situation.neighbours.values()))
    met = len(history) + len(situation.seen or ())
    return _OF_ONE + _OF_A_MET * met + vectors + neighbours
