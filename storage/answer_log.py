"""The answer log: past answers of all tenants, written in batches, read by their ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from storage.database import MAINTENANCE_ROLE, Connection, Database
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("answer_log")


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A past answer.

    Attributes:
        user_id: as in interactions, "session:" and the id for a session; "" for nobody.
        model_versions: name@version of the trained models that took part.
        payload: what the answer was made from, as the engine packs it.
    """

    recommendation_id: str
    user_id: str
    answered_at: datetime
    expires_at: datetime
    model_versions: tuple[str, ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer to be stored; `user_hash` is what the user's tombstone would hold."""

    tenant_id: str
    answer: AnswerRow
    user_hash: bytes


class AnswerLogStore:
    """The answer_log table.

    Rows of several tenants are written together, by one INSERT of arrays: PostgreSQL refuses COPY
    into a table under row-level security.

    Args:
        database: connections that see one tenant at a time.
        maintenance: connections that see all tenants; only `write` needs them.
    """

    def __init__(self, database: Database, maintenance: Database | None = None) -> None:
        self._database = database
        self._maintenance = maintenance

    async def write(self, rows: Sequence[NewAnswer]) -> frozenset[str]:
        """Stores answers in one transaction.

        Returns:
            The ids of those stored: all but the answers of erased tenants and users.
        """
        if self._maintenance is None or self._maintenance.role != MAINTENANCE_ROLE:
            raise ValueError("needs connections that see all tenants")
        tenants = [row.tenant_id for row in rows]
        answers = [row.answer for row in rows]
        async with self._maintenance.transaction(None) as connection:
            # Erasures of tenants and users wait for this lock, and the INSERT looks after it.
            await connection.fetchval(_SQL["hold_tenants"], sorted(set(tenants)))
            stored = await connection.fetch(
                _SQL["insert_answers"],
                tenants,
                [a.recommendation_id for a in answers],
                [a.user_id for a in answers],
                [a.answered_at for a in answers],
                [a.expires_at for a in answers],
                [orjson.dumps(a.model_versions).decode() for a in answers],
                [a.payload for a in answers],
                [row.user_hash for row in rows],
            )
        return frozenset(row["recommendation_id"] for row in stored)

    async def get(self, tenant: Tenant, recommendation_id: str) -> AnswerRow | None:
        """A tenant's answer; None when it is not kept, or no longer.

        Raises:
            StaleTenant: the tenant's row has changed.
        """
        async with self._database.connection(tenant.tenant_id) as connection:
            row = await connection.fetchrow(
                _SQL["get_answer"], tenant.tenant_id, tenant.version, recommendation_id
            )
        if row is None:
            return None
        return AnswerRow(**{**row, "model_versions": tuple(row["model_versions"])})

    async def delete_user(self, tenant_id: str, user_id: str) -> int:
        """Forgets the answers given to a user; returns how many."""
        async with self._database.connection(tenant_id) as connection:
            return await delete_user(connection, tenant_id, user_id)

    async def count_user(self, tenant_id: str, user_id: str) -> int:
        """How many answers given to a user are kept."""
        async with self._database.connection(tenant_id) as connection:
            return int(await connection.fetchval(_SQL["count_answers_of_user"], tenant_id, user_id))


async def delete_user(connection: Connection, tenant_id: str, user_id: str) -> int:
    """Like `AnswerLogStore.delete_user`, as a part of the caller's transaction."""
    return int(await connection.fetchval(_SQL["delete_answers_of_user"], tenant_id, user_id))
