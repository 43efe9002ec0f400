"""How often entities were asked for: interactions counted by the hour or the day."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.database import Database
from storage.entities import EntityKey
from storage.queries import load
from storage.tenants import Tenant

_SQL = load("demand")

Step: TypeAlias = Literal["hour", "day"]
"""The length of a step; steps begin on the hour or at midnight, in UTC."""

STEP_LENGTHS: dict[Step, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose interactions are counted: those of all entities that satisfy what is not None.

    Attributes:
        attribute: a top-level attribute's key, and the text that it is or, as a list, holds.
    """

    entity_type: str | None = None
    entity_id: str | None = None
    attribute: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StepCounts:
    """A series of counts without gaps.

    Attributes:
        start: when the first step begins.
        counts: int64, shape (steps,), oldest first.
    """

    start: datetime
    counts: NDArray[np.int64]


class DemandStore:
    """Counts over the interactions table, for one tenant a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_entity(self, tenant: Tenant, key: EntityKey) -> bool:
        """Whether the tenant has an entity of that name."""
        async with self._database.connection(tenant.tenant_id) as connection:
            found = await connection.fetchval(
                _SQL["entity_exists"], tenant.tenant_id, tenant.version, tenant.placement, *key
            )
        return bool(found)

    async def count_steps(
        self, tenant: Tenant, subject: Subject, interaction_types: list[str], step: Step, steps: int
    ) -> StepCounts | None:
        """Interactions of some types in each of the last full steps; None for a tenant without any.

        The last step is the one before the present one. Where the tenant's newest interaction lies
        before it, that interaction's step is the last: a log of the past is data, not a lull.
        """
        key, value = subject.attribute or (None, None)
        async with self._database.connection(tenant.tenant_id) as connection:
            rows = await connection.fetch(
                _SQL["count_steps"],
                tenant.tenant_id,
                tenant.version,
                tenant.placement,
                step,
                STEP_LENGTHS[step].total_seconds(),
                interaction_types,
                steps,
                subject.entity_type,
                subject.entity_id,
                key,
                value,
            )
        if not rows:
            return None
        counts = np.fromiter((row["number"] for row in rows), np.int64, len(rows))
        return StepCounts(rows[0]["start"], counts)
