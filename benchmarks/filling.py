"""What the benchmarks' tenants hold, put there once."""

import asyncio
import time
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from penchant.v1 import admin_pb2
from penchant.v1.admin_pb2_grpc import AdminServiceStub

from benchmarks import generator, service
from benchmarks.console import Advance
from benchmarks.world import Serving, World
from jobs.context import job_context
from jobs.registry import run_once
from storage.sessions import EF_SEARCH

_COLUMNS = (
    "placement", "tenant_id", "entity_type", "entity_id", "attributes", "feature_vector",
    "vector_given",
)  # fmt: skip
_OWN_PLACEMENT = 1_000
_STREAMS = 4
_ATTEMPTS = 5
_PAUSE_SECS = 5.0


def halfvec(vector: NDArray[Any]) -> bytes:
    """A vector in pgvector's binary form of a halfvec."""
    return len(vector).to_bytes(2, "big") + b"\0\0" + vector.astype(">f2").tobytes()


async def know_vectors(world: World) -> None:
    """Lets vectors go to PostgreSQL as `halfvec` makes them."""
    schema = await world.postgres.fetchval(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
    )
    await world.postgres.set_type_codec(
        "halfvec", schema=schema, encoder=bytes, decoder=bytes, format="binary"
    )


async def _tenant(world: World, serving: Serving, tenant_id: str, dimension: int) -> None:
    if world.has_key(tenant_id):
        raise service.Refused(f"{tenant_id} was filled halfway: take another --keep")
    await world.create_tenant(serving, admin_pb2.Tenant(tenant_id=tenant_id, dimension=dimension))


async def copy_entities(
    world: World, tenant_id: str, size: int, dimension: int, advance: Advance
) -> None:
    """The generator's entities, straight into the table: before anybody has asked for them."""
    await know_vectors(world)
    done = 0
    for block in generator.entities(size, dimension):
        rows = (
            (0, tenant_id, generator.ENTITY_TYPE, name, attributes.decode(), halfvec(vector), True)
            for name, attributes, vector in zip(
                block.names, block.attributes, block.vectors, strict=True
            )
        )
        await world.postgres.copy_records_to_table("entities", records=rows, columns=_COLUMNS)
        done += len(block.names)
        advance(done)


def log_of(users: int, each: int, known: int) -> service.Log:
    """The generator's interactions."""
    taste = generator.tastes(users, each, known)
    return service.Log(
        [f"user-{n}" for n in range(users)],
        [generator.name(n) for n in range(known)],
        taste.users,
        taste.items,
        int(time.time()) - taste.age_secs,
    )


async def ingest(world: World, serving: Serving, tenant_id: str, log: service.Log) -> None:
    """Sends interactions; again from the beginning where a busy machine had the service refuse."""
    with world.steps.step(f"{tenant_id}: ingesting", len(log.users)) as advance:
        async with service.channels(serving.target, _STREAMS) as channels:
            for attempt in range(_ATTEMPTS):
                try:
                    await service.ingest(channels, log, advance, world.caller(tenant_id))
                except grpc.aio.AioRpcError as error:
                    last = attempt == _ATTEMPTS - 1
                    if last or error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(_PAUSE_SECS)
                else:
                    return


async def run_jobs(world: World, names: set[str] | None = None) -> None:
    """Runs jobs once; tenants of some size get a partition of their own."""
    settings = world.settings.model_copy(update={"own_placement_threshold": _OWN_PLACEMENT})
    async with job_context(settings) as context:
        await context.retention.analyze()
        await run_once(context, names)


async def catalogue(
    world: World, tenant_id: str, size: int, *, dimension: int, users: int, each: int = 30
) -> list[str]:
    """A tenant with the generator's entities, users who know some of them, and all that jobs make.

    Returns:
        The users.
    """
    names = [f"user-{n}" for n in range(users)]
    what = {"size": size, "dimension": dimension, "users": users, "each": each}
    if world.filled(tenant_id) == what:
        return names
    if world.filled(tenant_id) is not None:
        raise service.Refused(f"{tenant_id} was filled otherwise: take another --keep")
    serving = await world.some()
    await _tenant(world, serving, tenant_id, dimension)
    with world.steps.step(f"{tenant_id}: copying entities", size) as advance:
        await copy_entities(world, tenant_id, size, dimension, advance)
    with world.steps.step(f"{tenant_id}: its own partition and index", 1):
        await run_jobs(world, {"placements"})
    await ingest(world, serving, tenant_id, log_of(users, each, min(size, generator.KNOWN)))
    with world.steps.step(f"{tenant_id}: jobs", 1):
        await run_jobs(world)
        await world.postgres.execute("VACUUM ANALYZE")
    world.note_filled(tenant_id, what)
    return names


async def modelled(world: World, tenant_id: str, log: service.Log, algorithm: str) -> list[str]:
    """A tenant with a log of interactions and a model trained on it, which serves.

    Returns:
        The users.
    """
    what = {"interactions": len(log.users), "algorithm": algorithm}
    if world.filled(tenant_id) == what:
        return list(log.user_names)
    serving = await world.some()
    await _tenant(world, serving, tenant_id, 16)
    await ingest(world, serving, tenant_id, log)
    await train(world, serving, tenant_id, algorithm, log.user_names[0])
    with world.steps.step(f"{tenant_id}: jobs", 1):
        await run_jobs(world, {"trending", "quotas"})
        await world.postgres.execute("VACUUM ANALYZE")
    world.note_filled(tenant_id, what)
    return list(log.user_names)


async def train(world: World, serving: Serving, tenant_id: str, algorithm: str, user: str) -> None:
    """Trains a model to the point where it serves."""
    operator = world.operator(tenant_id)
    await service.create_model(serving.channel, "main", algorithm, {}, operator)
    with world.steps.step(f"{tenant_id}: training {algorithm}", 1) as advance:
        version = await service.train(serving.channel, "main", advance, operator)
    await service.until_served([serving.channel], user, version, operator)


async def vectors_of(world: World, tenant_id: str, users: int) -> dict[str, NDArray[np.float32]]:
    """The profiles of some users, as vectors of length 1."""
    rows = await world.postgres.fetch(
        "SELECT user_id, accumulator::real[] AS vector FROM user_profiles"
        " WHERE tenant_id = $1 AND accumulator IS NOT NULL ORDER BY user_id LIMIT $2",
        tenant_id,
        users,
    )
    vectors = {row["user_id"]: np.array(row["vector"], np.float32) for row in rows}
    return {user: vector / np.linalg.norm(vector) for user, vector in vectors.items()}


async def search_of(world: World, tenant_id: str) -> tuple[int, int]:
    """The partition that a tenant's entities are in, and how widely its index is searched."""
    serving = await world.some()
    stats = await AdminServiceStub(serving.channel).GetIndexStats(
        admin_pb2.GetIndexStatsRequest(tenant_id=tenant_id), metadata=world.operator()
    )
    return stats.placement, stats.ef_search or EF_SEARCH
