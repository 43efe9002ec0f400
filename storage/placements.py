"""Moves of tenants from the shared placement to one of their own, while they are read and written.

A move is a row of `placement_moves` and goes on in steps, each one transaction that does a piece of
work and says so in the row. Whoever is interrupted anywhere leaves a row from which anybody can go
on, and two who go on with the same move take turns.

    requested  the new table is made aside, and triggers log what changes in the old placement
    copying    entities are copied in slices by their number
    indexing   the HNSW index is built on the copy
    switching  logged changes are brought over in slices until few are left; then, with the tenant's
               writers waiting, the rest, and the new partition takes the old rows' place
    cleaning   the triggers go
    done

Readers never wait for the switch, and nobody waits long for a lock that the move cannot get: it
gives way after `LOCK_TIMEOUT_MS` and tries again.

A statement that is planned before the switch and takes its snapshot after it finds the rows in
neither place, since attaching a partition does not wait for plans. Statements with a guard are
refused then, for the tenant's version has changed. Statements over several tenants have none: what
is computed from them is written under the guard (`penchant_guard_write`) or may be incomplete.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from storage.database import Connection, Database
from storage.exceptions import FailedPrecondition, NotFound
from storage.queries import load
from storage.retry import retry_transient
from storage.sessions import changed

_SQL = load("placements")
_TENANTS = load("tenants")

LOCK_TIMEOUT_MS = 300
"""How long a step stands in the queue for a lock, and others behind it."""

STEP_TIMEOUT_SECS = 6 * 3600.0
"""Longest run of one step's statement: an HNSW build of millions of vectors."""

_PATIENCE_SECS = 60.0
_ATTEMPTS = 60
_FEW_CHANGES = 200

Phase: TypeAlias = Literal["requested", "copying", "indexing", "switching", "cleaning", "done"]


@dataclass(frozen=True, slots=True)
class Move:
    """A move as its row says, with what it needs to know of the tenant.

    Attributes:
        cursor_no: the last entity number that has been copied.
    """

    tenant_id: str
    tenant_no: int
    dimension: int
    source: int
    target: int
    phase: Phase
    cursor_no: int


class PlacementStore:
    """The placements of tenants' entities.

    Args:
        owner: connections of the schema's owner, who may make tables.
        maintenance: connections that see all tenants.
        slice_size: entities, or logged changes, that one transaction brings over.
    """

    def __init__(self, owner: Database, maintenance: Database, *, slice_size: int = 2_000) -> None:
        self._owner = owner
        self._maintenance = maintenance
        self._slice_size = slice_size

    async def request_move(self, tenant_id: str) -> None:
        """Asks for a placement of the tenant's own; does nothing where it has or awaits one."""
        async with self._maintenance.connection(None) as connection:
            await connection.execute(_SQL["request_move"], tenant_id)

    async def request_crowded(self, threshold: int) -> list[str]:
        """Asks for a placement of its own for every tenant of the shared one with more entities.

        Returns:
            The tenants for which this call asked.
        """
        async with self._maintenance.connection(None) as connection:
            return [
                r["tenant_id"] for r in await connection.fetch(_SQL["request_crowded"], threshold)
            ]

    async def unfinished(self) -> list[str]:
        """Tenants whose move is requested or under way, the longest waiting first."""
        async with self._maintenance.connection(None) as connection:
            return [r["tenant_id"] for r in await connection.fetch(_SQL["unfinished_moves"])]

    async def move(self, tenant_id: str) -> None:
        """Goes on with a tenant's move until it is done.

        Raises:
            NotFound: no move of this tenant was requested.
            FailedPrecondition: the tenant is being erased.
            Aborted: a lock could not be had for a minute; the move can be gone on with later.
            Unavailable: PostgreSQL stayed away; likewise.
        """
        phase: Phase = "requested"
        while phase != "done":
            phase = await retry_transient(
                partial(self.step, tenant_id), deadline_secs=_PATIENCE_SECS, attempts=_ATTEMPTS
            )

    async def step(self, tenant_id: str) -> Phase:
        """Does one step of a move, in one transaction; returns the phase that it is in then."""
        async with self._owner.transaction(tenant_id) as connection:
            await connection.execute(_SQL["set_lock_timeout"], LOCK_TIMEOUT_MS)
            move = await _locked(connection, tenant_id)
            cursor_no = move.cursor_no
            phase: Phase = move.phase
            match move.phase:
                case "requested":
                    await connection.execute(_SQL["prepare"], tenant_id, move.source, move.target)
                    phase = "copying"
                case "copying":
                    copied = await self._copy(connection, move)
                    cursor_no = cursor_no if copied is None else copied
                    phase = "indexing" if copied is None else "copying"
                case "indexing":
                    await connection.execute(
                        _SQL["index"], move.target, move.dimension, timeout=STEP_TIMEOUT_SECS
                    )
                    phase = "switching"
                case "switching":
                    if await self._drain(connection, move) <= _FEW_CHANGES:
                        await self._switch(connection, move)
                        phase = "cleaning"
                case "cleaning":
                    await connection.execute(_SQL["clean"], move.source, move.target)
                    phase = "done"
                case "done":
                    return phase
            await connection.execute(_SQL["advance_move"], tenant_id, phase, cursor_no)
        return phase

    async def _copy(self, connection: Connection, move: Move) -> int | None:
        copied: int | None = await connection.fetchval(
            _SQL["copy"],
            move.tenant_id,
            move.source,
            move.target,
            move.cursor_no,
            self._slice_size,
            timeout=STEP_TIMEOUT_SECS,
        )
        return copied

    async def _drain(self, connection: Connection, move: Move) -> int:
        return int(
            await connection.fetchval(
                _SQL["drain"],
                move.tenant_id,
                move.source,
                move.target,
                self._slice_size,
                timeout=STEP_TIMEOUT_SECS,
            )
        )

    async def _switch(self, connection: Connection, move: Move) -> None:
        # From here to the commit the tenant's writers wait; what they have committed is in the log.
        await connection.execute(_TENANTS["lock_tenant"], move.tenant_no)
        while await self._drain(connection, move):
            pass
        changed(connection, move.tenant_id)
        version = await connection.fetchval(
            _SQL["switch"], move.tenant_id, move.source, move.target, timeout=STEP_TIMEOUT_SECS
        )
        if version is None:
            raise _erased(move.tenant_id)
        await connection.execute(_SQL["settle"], move.tenant_no)

    async def abandon(self, tenant_id: str) -> None:
        """Gives an unfinished move up: the tenant stays where it is. No move: nothing happens."""
        await retry_transient(
            partial(self._abandon, tenant_id), deadline_secs=_PATIENCE_SECS, attempts=_ATTEMPTS
        )

    async def _abandon(self, tenant_id: str) -> None:
        async with self._owner.transaction(tenant_id) as connection:
            await connection.execute(_SQL["set_lock_timeout"], LOCK_TIMEOUT_MS)
            row = await connection.fetchrow(_SQL["lock_move"], tenant_id)
            if row is None or row["phase"] == "done":
                return
            if row["phase"] != "requested":
                await connection.execute(_SQL["clean"], row["from_placement"], row["to_placement"])
                if row["placement"] != row["to_placement"]:
                    await connection.execute(_SQL["drop_placement"], row["to_placement"])
            await connection.execute(_SQL["forget_move"], tenant_id)


async def _locked(connection: Connection, tenant_id: str) -> Move:
    row = await connection.fetchrow(_SQL["lock_move"], tenant_id)
    if row is None:
        raise NotFound(f"No move of the tenant {tenant_id!r} was requested.")
    if row["state"] != "active":
        raise _erased(tenant_id)
    return Move(
        tenant_id=tenant_id,
        tenant_no=row["tenant_no"],
        dimension=row["dimension"],
        source=row["from_placement"],
        target=row["to_placement"],
        phase=row["phase"],
        cursor_no=row["cursor_no"],
    )


def _erased(tenant_id: str) -> FailedPrecondition:
    return FailedPrecondition(f"The tenant {tenant_id!r} is being erased.", reason="TENANT_ERASING")
