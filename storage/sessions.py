"""One connection's session: whose rows it shows, and how long it is kept."""

import socket
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from storage.driver_types import Connection, OwnConnection
from storage.version_slots import VersionSlots

_KEEPALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 10_000,  # milliseconds that what was sent may go without an answer
}

EF_SEARCH = 100
"""How widely HNSW indexes are searched for tenants that nothing else is known of."""

_PLANNED_ANEW = "force_custom_plan"
_PLANNED_ONCE = "force_generic_plan"

SETTINGS = {
    "application_name": "penchant",
    "timezone": "UTC",
    "jit": "off",
    # With many partitions a generic plan's first run is hundreds of times slower (DESIGN.md).
    "plan_cache_mode": _PLANNED_ANEW,
    # What a user has seen is probed as a hash table; one that does not fit becomes a scan a row.
    "work_mem": "32MB",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": str(EF_SEARCH),
    # A cancellation may come before its statement, and is ignored then. The pool ends such a
    # connection, which a statement that waits for a lock would not notice.
    "client_connection_check_interval": "1s",
}
"""What every session is started with."""


class SearchWidths:
    """How widely HNSW indexes are searched, by tenant, as this process last heard."""

    def __init__(self) -> None:
        self._others: dict[str, int] = {}

    def note(self, tenant_id: str, ef_search: int) -> None:
        """Loans for the tenant search this widely from now on."""
        if ef_search == EF_SEARCH:
            self._others.pop(tenant_id, None)
        else:
            self._others[tenant_id] = ef_search

    def of(self, tenant_id: str | None) -> int:
        """The ef_search of a tenant, or of nobody."""
        return self._others.get(tenant_id or "", EF_SEARCH)


class Session(OwnConnection):
    """A connection that knows whose setting it carries, its server, and when to replace it."""

    __slots__ = (
        "changes", "ef_search", "keeps_plans", "knows_vectors", "lent", "retire_at",
        "server_started", "slots", "tenant_id",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # "" is what a new session has; None means unknown.
        self.tenant_id: str | None = ""
        self.ef_search = EF_SEARCH
        self.keeps_plans = False
        self.knows_vectors = False
        self.retire_at = float("inf")
        self.server_started: datetime | None = None
        self.lent = False
        self.changes: list[dict[int, int]] = []
        self.slots: VersionSlots | None = None

    async def work_for(
        self, tenant_id: str | None, ef_search: int = EF_SEARCH, *, keep_plans: bool = False
    ) -> None:
        """Lets row-level security show one tenant's rows (None: nobody's).

        Args:
            ef_search: how widely HNSW indexes are searched for the tenant.
            keep_plans: statements are planned once a session instead of at each call, for those
                whose plan is the same whatever their arguments are.
        """
        wanted = (tenant_id or "", ef_search, keep_plans)
        if (self.tenant_id, self.ef_search, self.keeps_plans) != wanted:
            self.tenant_id = None
            await self.execute(
                "SELECT set_config('penchant.tenant_id', $1, false),"
                " set_config('hnsw.ef_search', $2, false),"
                " set_config('plan_cache_mode', $3, false),"
                # A plan made while a table is small must do when it has grown.
                " set_config('enable_seqscan', $4, false)",
                wanted[0],
                str(ef_search),
                _PLANNED_ONCE if keep_plans else _PLANNED_ANEW,
                "off" if keep_plans else "on",
            )
            self.tenant_id, self.ef_search, self.keeps_plans = wanted

    def notice_dead_peers(self) -> None:
        """Lets the kernel end the connection to a machine that is silent for some ten seconds."""
        peer = self._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, number in _KEEPALIVE.items():
            if (option := getattr(socket, name, None)) is not None:  # not on every system
                peer.setsockopt(socket.IPPROTO_TCP, option, number)

    def forget_tenant(self) -> None:
        """What the session is set to is not known any more."""
        self.tenant_id = None


def session_of(borrowed: Connection) -> Session:
    """The session behind a pool's loan."""
    session: Session = borrowed._con  # type: ignore[attr-defined]  # missing in the stubs
    return session


def changed(
    borrowed: Connection,
    tenant_id: str,
    user_ids: Iterable[str] | None = None,
    *,
    withdraws: bool = False,
) -> None:
    """Notes that the loan changes what answers depend on; the version slots hear when it ends.

    Until then no answer of the users holds.

    To be called before the statement: what fails may have been committed all the same.

    Args:
        user_ids: whose answers alone depend on it; None: all of the tenant's.
        withdraws: nobody may get the tenant's answers of before any more, whatever staleness they
            allow: something was erased, or an operator wants them gone.
    """
    users = None if user_ids is None else tuple(user_ids)
    session = session_of(borrowed)
    if session.slots is not None:
        session.changes.append(session.slots.begin(tenant_id, users, withdraws=withdraws))


async def keep_session(_: OwnConnection) -> None:
    """Replaces asyncpg's reset, which costs a round trip and forgets the tenant."""
