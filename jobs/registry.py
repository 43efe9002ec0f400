"""The periodic jobs, a line each."""

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from jobs.context import JobContext
from jobs.index_quality import watch_indexes
from jobs.neighbours import refresh_neighbours
from jobs.placements import move_crowded_tenants
from jobs.profiles import refresh_profiles
from jobs.quotas import measure_tenants
from jobs.retention import keep_house
from jobs.trending import refresh_trending
from jobs.warming import warm_indexes

RUNS = Counter(
    "penchant_job_runs_total", "Runs of periodic jobs that ended, by outcome.", ["job", "outcome"]
)
SECONDS = Histogram(
    "penchant_job_seconds",
    "How long one run of a job took.",
    ["job"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0),
)


@dataclass(frozen=True, slots=True)
class Job:
    """A periodic job.

    Attributes:
        interval: the setting that says how often it runs, in seconds; "" for `AT_START`.
        work: one run; must be safe to repeat after an interruption anywhere.
    """

    name: str
    interval: str
    work: Callable[[JobContext], Awaitable[None]]

    async def run(self, context: JobContext) -> None:
        """One run, counted and timed."""
        began = time.monotonic()
        outcome = "error"
        try:
            await self.work(context)
            outcome = "ok"
        finally:
            RUNS.labels(self.name, outcome).inc()
            SECONDS.labels(self.name).observe(time.monotonic() - began)


JOBS = (
    Job("retention", "retention_interval_secs", keep_house),
    Job("placements", "placement_interval_secs", move_crowded_tenants),
    Job("quotas", "quota_interval_secs", measure_tenants),
    Job("profiles", "profile_interval_secs", refresh_profiles),
    Job("trending", "trending_interval_secs", refresh_trending),
    Job("neighbours", "neighbours_interval_secs", refresh_neighbours),
    Job("index_quality", "index_quality_interval_secs", watch_indexes),
)

AT_START = Job("warming", "", warm_indexes)
"""Runs once when a process begins to lead: after its own start, and after PostgreSQL's."""


async def run_once(context: JobContext, names: Collection[str] | None = None) -> None:
    """Runs all jobs, or the named ones, once and in order; the first failure is raised."""
    for job in JOBS:
        if names is None or job.name in names:
            await job.run(context)
