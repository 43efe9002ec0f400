"""`make bench`: the service beside a bare echo, in one run, on one machine.

Where there are two cores the echo has one and the load generator the other; the service, with
PostgreSQL and Redis, runs where the scheduler puts it. The generator is a Python client: it
measures ratios, and is itself the limit for the echo. A first baseline: no goals yet.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from penchant.v1 import entity_pb2, interaction_pb2, recommendation_pb2
from penchant.v1.common_pb2 import EntityRef
from rich.table import Table

from benchmarks.console import tell
from benchmarks.echo import METHOD as ECHO
from jobs.context import job_context
from jobs.registry import run_once
from server.processes import running_service
from server.settings import Settings
from sources.catalogue import DemoCatalogue
from storage.config import DatabaseConfig, RedisCacheConfig

RECOMMEND = "/penchant.v1.RecommendationService/Recommend"
INGEST = "/penchant.v1.InteractionService/IngestInteraction"
TENANT = "default"


def pinned(core: int) -> list[str]:
    """The prefix that keeps a process on a core; nothing where there is only one."""
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []


async def measure(
    target: str, method: str, bodies: list[bytes], callers: int, seconds: float
) -> dict[str, float]:
    """One run of the load generator."""
    plan = {
        "target": target,
        "method": method,
        "bodies": [b64encode(body).decode() for body in bodies],
        "tenant": TENANT,
        "callers": callers,
        "seconds": seconds,
    }
    process = await asyncio.create_subprocess_exec(
        *pinned(1), sys.executable, "-m", "benchmarks.load",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(json.dumps(plan).encode())
    measured: dict[str, float] = json.loads(out)
    return measured


@contextmanager
def echo_server(size: int) -> Iterator[str]:
    """The reference's address."""
    process = subprocess.Popen(
        [*pinned(0), sys.executable, "-m", "benchmarks.echo", str(size)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def bodies(users: list[str]) -> dict[str, list[bytes]]:
    """Request bytes by kind of work."""
    ingest = interaction_pb2.IngestInteractionRequest()
    ingest.interaction.user_id = users[0]
    ingest.interaction.entity.entity_type = "book"
    ingest.interaction.entity.entity_id = "bench-target"
    ingest.interaction.interaction_type = "view"
    return {
        "hot": [recommendation_pb2.RecommendRequest(user_id=users[0]).SerializeToString()],
        # Excluding a changing name that does not exist misses every cache and changes no work.
        "cold": [
            recommendation_pb2.RecommendRequest(
                user_id=users[n % len(users)],
                exclude=[EntityRef(entity_type="book", entity_id=f"no-such-{n}")],
            ).SerializeToString()
            for n in range(20_000)
        ],
        "ingest": [ingest.SerializeToString()],
    }


async def load_catalogue(target: str) -> list[str]:
    """Stores the demo's books and interactions; returns the readers' ids."""
    import grpc
    from penchant.v1 import entity_pb2_grpc, interaction_pb2_grpc

    catalogue = DemoCatalogue()
    now = datetime.now(UTC)
    async with grpc.aio.insecure_channel(target) as channel:
        entities = entity_pb2_grpc.EntityServiceStub(channel)
        log = interaction_pb2_grpc.InteractionServiceStub(channel)
        for batch in catalogue.entities():
            request = entity_pb2.BatchUpsertEntitiesRequest()
            for draft in batch:
                entity = request.requests.add().entity
                entity.entity.entity_type, entity.entity.entity_id = (
                    draft.entity_type,
                    draft.entity_id,
                )
                entity.attributes.update(dict(draft.attributes or {}))
            await entities.BatchUpsertEntities(request)
        users: dict[str, None] = {}

        async def batches() -> AsyncIterator[interaction_pb2.IngestInteractionsRequest]:
            for drafts in catalogue.interactions(now):
                request = interaction_pb2.IngestInteractionsRequest()
                for draft in drafts:
                    users[draft.user_id] = None
                    added = request.interactions.add(
                        user_id=draft.user_id, interaction_type=draft.interaction_type
                    )
                    added.entity.entity_type = draft.entity_type
                    added.entity.entity_id = draft.entity_id
                    if draft.timestamp is not None:
                        added.timestamp.FromDatetime(draft.timestamp)
                yield request

        async for _ in log.IngestInteractions(batches()):
            pass
    return list(users)


async def run(seconds: float) -> dict[str, dict[str, float]]:
    """Measures everything once."""
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="penchant-bench-") as directory:
        settings = Settings(
            port=0,
            metrics_port=0,
            data_dir=Path(directory),
            log_level="warning",
            database=DatabaseConfig(url=None),
            cache=RedisCacheConfig(url=None),
        )
        async with running_service(settings) as actual:
            target = f"127.0.0.1:{actual.port}"
            users = await load_catalogue(target)
            async with job_context(actual) as context:
                await context.retention.analyze()
                await run_once(context)
            work = bodies(users)
            with echo_server(5_000) as echo:
                plan = [
                    ("echo, 16 callers", echo, ECHO, [b"x" * 20], 16),
                    ("Recommend, hot", target, RECOMMEND, work["hot"], 16),
                    ("Recommend, cold", target, RECOMMEND, work["cold"], 16),
                    ("echo, 64 callers", echo, ECHO, [b"x" * 60], 64),
                    ("IngestInteraction", target, INGEST, work["ingest"], 64),
                ]
                for name, where, method, sent, callers in plan:
                    await measure(where, method, sent, callers, min(1.0, seconds))  # warm up
                    results[name] = await measure(where, method, sent, callers, seconds)
    return results


def report(results: dict[str, dict[str, float]]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table("work", "calls/s", "of the echo", "p50 ms", "p99 ms", "errors")
    for name, r in results.items():
        callers = 64 if "64" in name or name.startswith("Ingest") else 16
        reference = results[f"echo, {callers} callers"]["per_second"]
        table.add_row(
            name,
            f"{r['per_second']:.0f}",
            f"{r['per_second'] / reference:.2f}",
            f"{r['p50_ms']:.2f}",
            f"{r['p99_ms']:.2f}",
            f"{r['errors']:.0f}",
        )
    tell("baseline", table, results)


def main() -> None:
    """Runs and reports; fails when any call failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="a second of each, to see that it runs"
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    results = asyncio.run(run(1.0 if arguments.smoke else arguments.seconds))
    report(results)
    if any(r["errors"] for r in results.values()):
        raise SystemExit("some calls failed")


if __name__ == "__main__":
    main()
