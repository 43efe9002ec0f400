"""The versions that answers depend on, remembered while nothing has changed."""

from collections import OrderedDict
from dataclasses import dataclass

from storage.situations import Versions
from storage.tenants import Tenant
from storage.users import UserStore
from storage.version_slots import Stamp

_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class _Known:
    versions: Versions
    stamp: Stamp
    tenant_version: int


class KnownVersions:
    """Users' versions as they were last read.

    Args:
        users: who knows what has changed.
    """

    def __init__(self, users: UserStore) -> None:
        self._users = users
        self._known: OrderedDict[tuple[int, str], _Known] = OrderedDict()

    def get(self, tenant: Tenant, user_id: str, at_least_as_fresh: int = 0) -> Versions | None:
        """A user's versions now ("" is nobody in particular); None: PostgreSQL has to be asked.

        Args:
            at_least_as_fresh: a transaction that must be part of the snapshot they are of, whatever
                the slots say: it may be of a host that nothing is heard of. 0: none.
        """
        known = self._known.get((tenant.tenant_no, user_id))
        holds = (
            known is not None
            and known.versions.transaction_id > at_least_as_fresh
            and known.tenant_version == tenant.version
            and self._users.holds(known.stamp)
        )
        return known.versions if holds and known is not None else None

    def keep(self, tenant: Tenant, user_id: str, versions: Versions, stamp: Stamp) -> None:
        """Remembers what was read.

        Args:
            stamp: taken before it was read.
        """
        name = (tenant.tenant_no, user_id)
        self._known[name] = _Known(versions, stamp, tenant.version)
        self._known.move_to_end(name)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
