"""Trending and popular entities, counted anew where something happened or the window moved on."""

from datetime import timedelta

from jobs.context import JobContext
from jobs.due import for_due_tenants

MAX_AGE = timedelta(minutes=15)
"""A window that ends now loses weight and events even where nothing happens."""


async def refresh_trending(context: JobContext) -> None:
    """Counts the windows of all tenants that are due."""
    await for_due_tenants(context, "trending", MAX_AGE, context.trends.refresh_trending)
