"""Version slots: what the processes of one host know at once of each other's changes.

A table of 64-bit numbers in a file that all of them map. A tenant has a slot, and so has a user;
several may share one, which costs an answer made anew and nothing else. Whoever changes something
writes a number that was never there before, after COMMIT and before anybody is told. Whoever keeps
an answer keeps the numbers that stood there before it was read from PostgreSQL; the answer holds
while they are the same.

A tenant has a second slot, of what was withdrawn: nothing of before may be given any more, not even
to callers who take answers that do not hold.
"""

import mmap
import os
import secrets
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_TENANTS = 4096
_USERS = 65_536
_WITHDRAWN = _TENANTS + _USERS  # a second slot of each tenant, this much behind its first
_SLOTS = _WITHDRAWN + _TENANTS
_LINKED_UNTIL = 2 * _SLOTS  # behind this host's slots and those for other hosts
_NUMBERS = _LINKED_UNTIL + 1
_FILE = "version-slots"
_UNDER_WAY = 1 << 63
"""In a user's number: a write is under way. What was read while it stood there does not hold."""


class Stamp(NamedTuple):  # one or two a call: a frozen dataclass takes three times as long
    """What stood in the slots of a tenant and of a user at one moment: here, and of elsewhere."""

    tenant_slot: int
    user_slot: int
    tenant_number: int
    user_number: int
    tenant_elsewhere: int
    user_elsewhere: int
    withdrawn: int
    withdrawn_elsewhere: int


class VersionSlots:
    """The table of one host.

    Numbers are written whole by the processors that this runs on, and each process writes other
    numbers than all others: none comes back after it was overwritten, so no lock is needed.

    Args:
        directory: where the file lies, made if need be; None: a table of this process alone.
        several_hosts: other hosts change things too: nothing holds unless `storage.version_relay`
            hears of them.
    """

    def __init__(self, directory: Path | None = None, *, several_hosts: bool = False) -> None:
        self._map = mmap.mmap(-1, 8 * _NUMBERS) if directory is None else _mapped(directory)
        self._numbers = memoryview(self._map).cast("Q")
        self._several_hosts = several_hosts
        # Another one in each process; a second of the same span would need 2^32 changes.
        self._next = secrets.randbits(31) << 32

    def stamp(self, tenant_id: str, user_id: str) -> Stamp:
        """What stands there now; "" is nobody in particular."""
        tenant, user = _tenant_slot(tenant_id), _user_slot(tenant_id, user_id)
        now, withdrawn = self._numbers, tenant + _WITHDRAWN
        return Stamp(
            tenant,
            user,
            now[tenant],
            now[user],
            now[tenant + _SLOTS],
            now[user + _SLOTS],
            now[withdrawn],
            now[withdrawn + _SLOTS],
        )

    def holds(self, stamp: Stamp) -> bool:
        """Whether nothing has changed since, on no host that is heard of."""
        now = self._numbers
        if (
            now[stamp.user_slot] != stamp.user_number
            or now[stamp.tenant_slot] != stamp.tenant_number
            or stamp.user_number >= _UNDER_WAY
        ):
            return False
        return not self._several_hosts or (
            now[stamp.user_slot + _SLOTS] == stamp.user_elsewhere
            and now[stamp.tenant_slot + _SLOTS] == stamp.tenant_elsewhere
            and now[_LINKED_UNTIL] > time.monotonic_ns()
        )

    def stands(self, stamp: Stamp) -> bool:
        """Whether nothing was withdrawn since, on no host that is heard of."""
        now, withdrawn = self._numbers, stamp.tenant_slot + _WITHDRAWN
        return now[withdrawn] == stamp.withdrawn and (
            not self._several_hosts
            or (
                now[withdrawn + _SLOTS] == stamp.withdrawn_elsewhere
                and now[_LINKED_UNTIL] > time.monotonic_ns()
            )
        )

    def begin(
        self, tenant_id: str, user_ids: Iterable[str] | None = None, *, withdraws: bool = False
    ) -> dict[int, int]:
        """No answer of these users holds until `end`.

        Others see a change as soon as it is committed, before its writer hears of that: whoever has
        seen it must not be given an older answer afterwards. Changes of all the tenant (None) may
        take long: what its answers depend on holds until the end.

        Args:
            withdraws: from the end on no answer of the tenant may be given that was made before.

        Returns:
            The change, for `end`. A writer's mark who dies stays until the slot's next change.
        """
        change = {_tenant_slot(tenant_id) + _WITHDRAWN: 0} if withdraws else {}
        if user_ids is None:
            change[_tenant_slot(tenant_id)] = 0
            return change
        for slot in {_user_slot(tenant_id, user_id) for user_id in user_ids}:
            self._next += 1
            change[slot] = self._numbers[slot] = self._next | _UNDER_WAY
        return change

    def end(self, change: Mapping[int, int]) -> None:
        """The change was made or not; answers of before do not hold any more."""
        for slot, mark in change.items():
            now = self._numbers[slot]
            if now == mark or now < _UNDER_WAY:  # else a later writer's mark, who will end it
                self._next += 1
                self._numbers[slot] = self._next

    def tell(
        self, tenant_id: str, user_ids: Iterable[str] | None = None, *, withdraws: bool = False
    ) -> None:
        """Answers of the tenant, or of these users of it alone, do not hold any more."""
        self.end(self.begin(tenant_id, user_ids, withdraws=withdraws))

    def numbers_here(self) -> NDArray[np.uint64]:
        """This host's slots as they are now: uint64, a copy."""
        return np.frombuffer(self._map, np.uint64, _SLOTS).copy()

    def tell_elsewhere(self, slots: NDArray[np.uint32] | None) -> None:
        """Another host has changed these slots; None: perhaps all."""
        self._next += 1
        elsewhere = np.frombuffer(self._map, np.uint64, _SLOTS, offset=8 * _SLOTS)
        if slots is None:
            elsewhere[:] = self._next
        else:
            elsewhere[slots[slots < _SLOTS]] = self._next

    def linked_for(self, seconds: float) -> None:
        """All other hosts are heard of until so many seconds from now."""
        self._numbers[_LINKED_UNTIL] = time.monotonic_ns() + max(0, int(seconds * 1e9))


def _tenant_slot(tenant_id: str) -> int:
    return zlib.crc32(tenant_id.encode()) % _TENANTS


def _user_slot(tenant_id: str, user_id: str) -> int:
    name = f"{tenant_id}\0{user_id}".encode()
    return _TENANTS + zlib.crc32(name) % _USERS


def _mapped(directory: Path) -> mmap.mmap:
    directory.mkdir(parents=True, exist_ok=True)
    file = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, 8 * _NUMBERS)  # new bytes are zeros, and what is there stays
        return mmap.mmap(file, 8 * _NUMBERS)
    finally:
        os.close(file)
