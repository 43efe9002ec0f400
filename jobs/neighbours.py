"""Item-to-item neighbours of each tenant, from its latest interactions."""

import asyncio
from datetime import timedelta

from engine.neighbours import cosine_neighbours
from jobs.context import JobContext
from jobs.due import for_due_tenants
from storage.tenants import Tenant

MAX_AGE = timedelta(hours=6)
"""Without new interactions only deletions change the result."""

INTERACTIONS = 2_000_000
"""The latest interactions of a tenant that are looked at; memory and time follow from it."""


async def refresh_neighbours(context: JobContext) -> None:
    """Computes the neighbours of all tenants that are due, in a thread: it is native code."""

    async def work(tenant: Tenant) -> None:
        pairs = await context.trends.preferences(tenant, INTERACTIONS)
        rows = await asyncio.to_thread(
            cosine_neighbours, pairs.users, pairs.entities, pairs.weights
        )
        await context.trends.replace_neighbours(tenant, rows, pairs.read_at)

    await for_due_tenants(context, "neighbours", MAX_AGE, work)
