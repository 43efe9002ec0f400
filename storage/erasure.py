"""Erased users: their tombstones, what is removed of them and where, and the receipts.

An erasure goes in three transactions, and each may be repeated after an interruption:

    refuse   the tombstone, while the tenant's writers are locked out: all that was stored before is
             removed next, and nothing is stored after
    remove   all rows of the user, counted
    receipt  the signed counts; those of an interrupted erasure wait in the tombstone until then
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from storage.database import Connection, Database
from storage.exceptions import Aborted
from storage.interactions import rebuild_profiles
from storage.placements import LOCK_TIMEOUT_MS
from storage.queries import load
from storage.quotas import use
from storage.sessions import changed
from storage.tenants import Tenant

_SQL = load("erasure")
_TENANTS = load("tenants")
_ENTITIES = load("entities")
_PLACEMENTS = load("placements")

_REMOVALS = {
    "interaction_keys": _SQL["remove_keys"],
    "user_profiles": _SQL["remove_profile"],
    "user_segments": _SQL["remove_segment"],
    "entity_neighbours": _SQL["remove_neighbours"],
    "entities": _SQL["remove_entity"],
    "profile_rebuilds": _SQL["remove_rebuild"],
    "embeddings": _SQL["remove_embeddings"],
    "trending_entities": _SQL["remove_trending"],
    "popular_entities": _SQL["remove_popular"],
    "prediction_cache": _SQL["remove_predictions"],
    "answer_log": load("answer_log")["delete_answers_of_user"],
}
"""By table, in this order; the interactions themselves, which lead to the keys, come last."""

_STEP_TIMEOUT_SECS = 600.0
_MOVE_RETRY_SECS = 30.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What an erasure removed.

    Attributes:
        counts: rows by table; those of an earlier attempt without a receipt are added.
        model_versions: that had seen the user, as name@version, likewise.
        trainable: whether anything is left that models could learn from.
    """

    counts: dict[str, int]
    model_versions: tuple[str, ...]
    trainable: bool


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt as it is kept.

    Attributes:
        subject: user or tenant.
        payload: what is signed.
        signature: Ed25519, 64 bytes.
    """

    tenant_id: str
    receipt_id: str
    subject: str
    erased_at: datetime
    payload: bytes
    signature: bytes
    key_id: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An erased user, of whom only a hash is known."""

    tenant_id: str
    tenant_no: int
    user_hash: bytes
    erased_at: datetime
    readmitted: bool


class ErasureStore:
    """The tables erased_users and erasure_receipts, and removal from all others.

    Args:
        service: connections that see one tenant at a time.
        maintenance: connections that may delete from every table; every statement names the tenant.
    """

    def __init__(self, service: Database, maintenance: Database) -> None:
        self._service = service
        self._maintenance = maintenance

    async def refuse(self, tenant: Tenant, user_hash: bytes) -> datetime:
        """Refuses a user from now on; what is stored of them was stored before this returns.

        Returns:
            The time of the erasure, of PostgreSQL's clock.

        Raises:
            StaleTenant: read the tenant again and repeat.
            Aborted: writers that were under way did not end in time; repeat.
        """
        async with self._maintenance.transaction(tenant.tenant_id) as connection:
            # Who waits for this lock keeps all later writers waiting: not for long.
            await connection.execute(_PLACEMENTS["set_lock_timeout"], LOCK_TIMEOUT_MS)
            await connection.execute(_TENANTS["lock_tenant"], tenant.tenant_no)
            await self._guard(connection, tenant)
            erased_at: datetime = await connection.fetchval(
                _SQL["put_tombstone"], tenant.tenant_id, user_hash
            )
            changed(connection, tenant.tenant_id, withdraws=True)
            await connection.execute(_SQL["flag_tenant"], tenant.tenant_id)
        return erased_at

    async def remove(
        self, tenant: Tenant, user_id: str, user_hash: bytes, *, readmit: bool
    ) -> Removed:
        """Removes all rows of a user who is refused, and restarts trainings that have read them.

        Args:
            readmit: from then on only what is older than the erasure is refused.

        Raises:
            StaleTenant: read the tenant again and repeat.
            Aborted: the user's entity is just being copied to another placement; repeat later.
        """
        who = (tenant.tenant_id, user_id)
        async with self._maintenance.transaction(tenant.tenant_id) as connection:
            await self._guard(connection, tenant)
            if await connection.fetchval(_SQL["move_under_way"], *who, tenant.placement):
                raise Aborted(
                    "The tenant's entities are being moved; erase the user after that.",
                    retry_after=_MOVE_RETRY_SECS,
                )
            before = orjson.loads(
                await connection.fetchval(_SQL["lock_tombstone"], tenant.tenant_id, user_hash)
            )
            changed(connection, tenant.tenant_id, withdraws=True)
            versions = [r["label"] for r in await connection.fetch(_SQL["versions_that_saw"], *who)]
            counts = {
                table: int(
                    await connection.fetchval(_REMOVALS[table], *who, timeout=_STEP_TIMEOUT_SECS)
                )
                for table in _REMOVALS
            }
            users = await connection.fetch(
                _SQL["remove_interactions"], *who, timeout=_STEP_TIMEOUT_SECS
            )
            counts["interactions"] = sum(row["removed"] for row in users)
            others = [row["user_id"] for row in users if row["user_id"] != user_id]
            await rebuild_profiles(connection, tenant, others)
            counts["operations"] = int(
                await connection.fetchval(_SQL["restart_trainings"], tenant.tenant_id)
            )
            if counts["entities"]:
                await connection.execute(_TENANTS["bump_catalogue"], tenant.tenant_id)
            removed = _added(before, counts, versions)
            await connection.execute(
                _SQL["note_removed"],
                tenant.tenant_id,
                user_hash,
                orjson.dumps(removed).decode(),
                readmit,
            )
            trainable = await connection.fetchval(_SQL["anything_to_train"], tenant.tenant_id)
            await use(connection, tenant, entities=-counts["entities"])
        return Removed(removed["counts"], tuple(removed["model_versions"]), trainable)

    async def add_receipt(self, row: ReceiptRow, user_hash: bytes) -> None:
        """Keeps the receipt of a user's erasure."""
        async with self._maintenance.transaction(row.tenant_id) as connection:
            await add_receipt(connection, row)
            await connection.execute(_SQL["forget_removed"], row.tenant_id, user_hash)

    async def find(self, tenant_id: str, user_id: str) -> dict[str, int]:
        """Rows of a user by table, zeros too."""
        async with self._maintenance.connection(tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["find_user"], tenant_id, user_id, timeout=_STEP_TIMEOUT_SECS
            )
        assert row is not None
        return dict(row)

    async def is_refused(self, tenant_id: str, user_hash: bytes) -> bool | None:
        """Whether all that a user does is refused; None for a user who was not erased."""
        async with self._service.connection(tenant_id) as connection:
            refused: bool | None = await connection.fetchval(
                _SQL["is_refused"], tenant_id, user_hash
            )
        return refused

    async def readmit(self, tenant_id: str, user_hash: bytes) -> bool:
        """Refuses only what is older than the erasure; False for a user who was not erased."""
        async with self._maintenance.connection(tenant_id) as connection:
            return bool(await connection.fetchval(_SQL["readmit"], tenant_id, user_hash))

    async def receipt(self, tenant_id: str, receipt_id: str) -> ReceiptRow | None:
        """A tenant's receipt; None when there is none of that id."""
        async with self._service.connection(tenant_id) as connection:
            row = await connection.fetchrow(_SQL["get_receipt"], tenant_id, receipt_id)
        return None if row is None else ReceiptRow(**row)

    async def tenant_receipt(self, tenant_id: str) -> tuple[str, ReceiptRow | None]:
        """The state of a tenant ("" for one that never was), and the receipt of its erasure."""
        async with self._maintenance.connection(tenant_id) as connection:
            state = await connection.fetchval(_SQL["tenant_state"], tenant_id)
            row = await connection.fetchrow(_SQL["get_tenant_receipt"], tenant_id)
        return state or "", None if row is None else ReceiptRow(**row)

    async def erased_lately(self, seconds: float) -> list[Tombstone]:
        """Users erased within the last seconds, over all tenants."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["erased_lately"], seconds)
        return [Tombstone(**row) for row in rows]

    async def flag_restored(self) -> None:
        """Has writers of all tenants with tombstones look for them, whatever else was restored."""
        async with self._maintenance.connection(None) as connection:
            await connection.execute(_SQL["flag_restored"])

    async def tombstones(self, tenant_id: str) -> list[Tombstone]:
        """All erased users of a tenant."""
        async with self._maintenance.connection(tenant_id) as connection:
            rows = await connection.fetch(_SQL["tombstones"], tenant_id)
        return [Tombstone(**row) for row in rows]

    async def people(self, tenant_id: str, after: str, limit: int) -> list[str]:
        """Ids after one of all who left anything in a tenant, in byte order."""
        async with self._maintenance.connection(tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["people"], tenant_id, after, limit, timeout=_STEP_TIMEOUT_SECS
            )
        return [row["user_id"] for row in rows]

    async def tenants_erased_lately(self, seconds: float) -> list[int]:
        """Numbers of the tenants whose erasure began, or went on, within the last seconds."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["tenants_erased_lately"], seconds)
        return [row["tenant_no"] for row in rows]

    async def _guard(self, connection: Connection, tenant: Tenant) -> None:
        await connection.execute(
            _ENTITIES["guard_write"], tenant.tenant_id, tenant.tenant_no, tenant.version
        )


async def add_receipt(connection: Connection, row: ReceiptRow) -> None:
    """Keeps a receipt, as a part of the caller's transaction."""
    await connection.execute(
        _SQL["add_receipt"],
        row.tenant_id,
        row.receipt_id,
        row.subject,
        row.erased_at,
        row.payload,
        row.signature,
        row.key_id,
    )


def _added(before: dict[str, Any], counts: dict[str, int], versions: list[str]) -> dict[str, Any]:
    earlier = before.get("counts", {})
    return {
        "counts": {table: count + earlier.get(table, 0) for table, count in counts.items()},
        "model_versions": sorted({*versions, *before.get("model_versions", ())}),
    }
