"""What is to be kept no longer, and room for what comes: keys, erased tenants, partitions."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TypeAlias, TypeVar

import orjson

from storage.database import Connection, Database
from storage.erasure import ReceiptRow, add_receipt
from storage.placements import LOCK_TIMEOUT_MS, PlacementStore
from storage.queries import load
from storage.retry import retry_transient

_SQL = load("retention")
_ANSWERS = load("answer_log")
_AUDIT = load("audit")
_TENANTS = load("tenants")
_INTERACTIONS = load("interactions")
_PLACEMENTS = load("placements")

T = TypeVar("T")
ReceiptMaker: TypeAlias = Callable[[str, datetime, Mapping[str, int]], ReceiptRow]
"""Makes the receipt of a tenant, the time and what went, by table or store."""

_PATIENCE_SECS = 60.0
_ATTEMPTS = 60


class RetentionStore:
    """Housekeeping over all tenants.

    Args:
        owner: connections of the schema's owner, who may make and drop tables.
        maintenance: connections that see all tenants.
        slice_size: rows that one transaction deletes.
    """

    def __init__(self, owner: Database, maintenance: Database, *, slice_size: int = 5_000) -> None:
        self._owner = owner
        self._maintenance = maintenance
        self._slice_size = slice_size
        self._placements = PlacementStore(owner, maintenance)

    async def ensure_interaction_partitions(self, months_ahead: int) -> int:
        """Makes the event log's partitions of this month and the next ones; returns how many."""

        async def ensure() -> int:
            async with self._owner.transaction(None) as connection:
                await connection.execute(_PLACEMENTS["set_lock_timeout"], LOCK_TIMEOUT_MS)
                made = await connection.fetchval(
                    _INTERACTIONS["ensure_interaction_partitions"], months_ahead
                )
            return int(made)

        return await self._patiently(ensure)

    async def ensure_answer_partitions(self, days_ahead: int) -> int:
        """Makes the answer log's partitions of this day and the next ones; returns how many."""
        return await self._change_answer_log("ensure_answer_partitions", days_ahead)

    async def drop_answers(self, before: datetime) -> int:
        """Forgets the logged answers of the days that ended before an instant.

        Returns:
            How many days' partitions went. Single answers go as well where the days had none.
        """
        dropped = await self._change_answer_log("drop_answer_partitions", before)
        purged = self._slice_size
        while purged == self._slice_size:
            async with self._maintenance.connection(None) as connection:
                purged = int(
                    await connection.fetchval(_ANSWERS["purge_answers"], before, self._slice_size)
                )
        return dropped

    async def _change_answer_log(self, statement: str, argument: object) -> int:
        async def change() -> int:
            async with self._owner.transaction(None) as connection:
                await connection.execute(_PLACEMENTS["set_lock_timeout"], LOCK_TIMEOUT_MS)
                return int(await connection.fetchval(_ANSWERS[statement], argument))

        return await self._patiently(change)

    async def analyze(self) -> None:
        """Refreshes the planner's statistics at once, as after a large import."""
        async with self._owner.connection(None) as connection:
            await connection.execute(_SQL["analyze"])

    async def analyze_models(self) -> None:
        """Like `analyze`, for the models' tables."""
        async with self._owner.connection(None) as connection:
            await connection.execute(_SQL["analyze_models"])

    async def purge_keys(self, before: datetime) -> int:
        """Forgets the idempotency keys older than an instant; returns how many."""
        purged = 0
        while True:
            async with self._maintenance.connection(None) as connection:
                count = await connection.fetchval(
                    _INTERACTIONS["purge_keys"], before, self._slice_size
                )
            purged += int(count)
            if count < self._slice_size:
                return purged

    async def purge_audit(self, before: datetime) -> int:
        """Forgets the audit's events of before an instant; returns how many."""
        purged = 0
        while True:
            async with self._owner.connection(None) as connection:
                count = await connection.fetchval(
                    _AUDIT["purge_audit_events"], before, self._slice_size
                )
            purged += int(count)
            if count < self._slice_size:
                return purged

    async def erasing(self) -> list[str]:
        """Tenants whose erasure has begun and is not finished."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_TENANTS["list_erasing_tenants"])
        return [row["tenant_id"] for row in rows]

    async def erase(self, tenant_id: str, receipt: ReceiptMaker | None = None) -> None:
        """Deletes all rows of a tenant whose erasure has begun; its name stays taken.

        Can be called again after any interruption. A tenant in another state is left alone.

        Args:
            receipt: makes the receipt of what went, kept together with the end; None: none.
        """
        if await self.fence(tenant_id) is not None:
            await self._placements.abandon(tenant_id)
            await self._patiently(partial(self._leave_placement, tenant_id))
            while not await self._patiently(partial(self._delete_rows, tenant_id, receipt)):
                pass

    async def fence(self, tenant_id: str) -> int | None:
        """Waits for the writers that began before a tenant's erasure; no other gets in.

        Returns:
            The tenant's number; None where it is not being erased.
        """
        return await self._patiently(partial(self._fence, tenant_id))

    async def artefacts_of(self, tenant_id: str) -> list[str]:
        """Hashes of the model artefacts that only this tenant's versions name."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["artefacts_of_tenant"], tenant_id)
        return [row["content_hash"] for row in rows]

    async def note_erased(self, tenant_id: str, store: str, count: int) -> None:
        """Has the receipt say that at least so many of something that is no table went."""
        async with self._owner.connection(tenant_id) as connection:
            await connection.execute(_SQL["note_erased"], tenant_id, store, count)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await retry_transient(work, deadline_secs=_PATIENCE_SECS, attempts=_ATTEMPTS)

    async def _fence(self, tenant_id: str) -> int | None:
        async with self._owner.transaction(tenant_id) as connection:
            row = await self._locked(connection, tenant_id, fence=True)
            return None if row is None else int(row["tenant_no"])

    async def _leave_placement(self, tenant_id: str) -> None:
        async with self._owner.transaction(tenant_id) as connection:
            row = await self._locked(connection, tenant_id, fence=False)
            if row is not None and row["placement"]:
                await connection.execute(_SQL["leave_placement"], tenant_id)
                await connection.execute(_PLACEMENTS["drop_placement"], row["placement"])

    async def _locked(
        self, connection: Connection, tenant_id: str, *, fence: bool
    ) -> Mapping[str, int] | None:
        """Number and placement of a tenant in erasure, its row locked; None for any other."""
        await connection.execute(_PLACEMENTS["set_lock_timeout"], LOCK_TIMEOUT_MS)
        row = await connection.fetchrow(_SQL["lock_erasing"], tenant_id)
        if row is None:
            return None
        if fence:
            await connection.execute(_TENANTS["lock_tenant"], row["tenant_no"])
        return {"tenant_no": row["tenant_no"], "placement": row["placement"]}

    async def _delete_rows(self, tenant_id: str, receipt: ReceiptMaker | None) -> bool:
        """Deletes in slices, then looks once more with the tenant fenced; whether that was all."""
        async with self._owner.connection(tenant_id) as connection:
            tables = [
                (row["name"], row["store"]) for row in await connection.fetch(_SQL["tenant_tables"])
            ]
            for table in tables:
                while await self._erase_rows(connection, table, tenant_id):
                    pass
        async with self._owner.transaction(tenant_id) as connection:
            if await self._locked(connection, tenant_id, fence=True) is None:
                return True
            late = [await self._erase_rows(connection, table, tenant_id) for table in tables]
            if not any(late):
                if receipt is not None:
                    row = await connection.fetchrow(_SQL["erased_counts"], tenant_id)
                    assert row is not None
                    counts = orjson.loads(row["counts"])
                    await add_receipt(connection, receipt(tenant_id, row["erased_at"], counts))
                await connection.execute(_TENANTS["finish_erasure"], tenant_id)
        return not any(late)

    async def _erase_rows(
        self, connection: Connection, table: tuple[str, str], tenant_id: str
    ) -> int:
        name, store = table
        return int(
            await connection.fetchval(_SQL["erase_rows"], name, tenant_id, self._slice_size, store)
        )
