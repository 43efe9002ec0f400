"""Rows of growth: more workers, more tenants, more entities."""

import asyncio
from base64 import b64encode

import numpy as np
from penchant.v1 import admin_pb2

from benchmarks import filling, service
from benchmarks.bench import TENANT, Bench, Goal, Line, Result
from benchmarks.contest import Figures, contest
from benchmarks.h2load import drive_plan
from benchmarks.processes import memory_mib
from benchmarks.rows_recommend import RECOMMEND, full_answer, recommend_side, request_of
from benchmarks.world import Serving

_CALLERS = 16
_PATIENT_CALLERS = 4
_FEW = 10
_ENTITIES_A_TENANT = 50
_USERS_A_TENANT = 2
_SAMPLES = 100
_NEAREST = 20
_LARGE = 10_000
_WARMING_SECS = 60.0
"""What a service that has just started may take to warm the indexes of a kept world."""


async def workers(bench: Bench) -> Result:
    """One worker and two, over as many connections: what a call costs, and how many there are."""
    users = await bench.catalogue()
    sides: dict[str, Figures] = {}
    # In an order in which the service is started seldom.
    for kind, count in (("hot", 1), ("cold", 1), ("cold", 2), ("hot", 2)):
        serving = await bench.world.serve("all" if kind == "hot" else "none", count)
        await full_answer(serving, users[0], bench.world.caller(TENANT))
        asked, connections = (users[:1], _CALLERS) if kind == "hot" else (users, 1)
        side = recommend_side(bench, serving, TENANT, asked, _CALLERS, connections)
        (sides[f"{kind}, {count}"],) = await contest([side], bench.plan)
    lines = []
    for kind in ("hot", "cold"):
        one, two = sides[f"{kind}, 1"], sides[f"{kind}, 2"]
        goal = Goal(1.1, 1.1, at_most=True)
        lines.append(Line(f"{kind}: CPU ms a call", two.cpu_ms, one.cpu_ms, goal))
        lines.append(Line(f"{kind}: calls/s", two.per_second, one.per_second))
    return Result(lines, sides)


async def tenants(bench: Bench) -> Result:
    """A few tenants in turn, and then all of many: computed answers, and the worker's memory."""
    many = bench.form.tenants
    if not many:
        return Result(note="not run: of make bench-long")
    world = bench.world
    names = [f"small-{number:04}" for number in range(many)]
    await _small_tenants(bench, names)
    serving = await world.serve("none")
    seconds = bench.plan.seconds * bench.plan.rounds
    sides, memory = {}, {}
    for asked in (names[:_FEW], names):
        # Each tenant has been served once when it is measured: what that keeps is in the memory.
        once = [[name, f"user-{n}"] for name in asked for n in range(_USERS_A_TENANT)]
        await _calls_in_turn(bench, serving, once, max(seconds, len(once) / 50))
        calls = await _calls_in_turn(bench, serving, once, seconds)
        sides[str(len(asked))] = calls
        memory[len(asked)] = memory_mib(serving.workers)
    few, all_ = sides[str(_FEW)], sides[str(many)]
    return Result(
        (
            Line("cold p50 ms", all_.p50_ms, few.p50_ms, Goal(1.3, 1.1, at_most=True)),
            Line("worker MiB", memory[many], memory[_FEW], Goal(1.5, 1.1, at_most=True)),
        ),
        sides,
    )


async def _small_tenants(bench: Bench, names: list[str]) -> None:
    world = bench.world
    what = {"tenants": len(names), "entities": _ENTITIES_A_TENANT}
    if world.filled("small") == what:
        return
    serving = await world.some()
    log = filling.log_of(_USERS_A_TENANT, 5, _ENTITIES_A_TENANT)
    with bench.steps.step("small tenants", len(names)) as advance:
        for done, name in enumerate(names, 1):
            await world.create_tenant(
                serving, admin_pb2.Tenant(tenant_id=name, dimension=bench.form.dimension)
            )
            await filling.copy_entities(
                world, name, _ENTITIES_A_TENANT, bench.form.dimension, lambda *_: None
            )
            await service.ingest([serving.channel], log, lambda *_: None, world.caller(name))
            advance(done)
    await filling.run_jobs(world, {"trending"})
    await world.postgres.execute("VACUUM ANALYZE")
    world.note_filled("small", what)


async def _calls_in_turn(
    bench: Bench, serving: Serving, asked: list[list[str]], seconds: float
) -> Figures:
    calls = [
        [b64encode(request_of(user)).decode(), bench.world.caller(tenant)] for tenant, user in asked
    ]
    plan = {
        "target": serving.target,
        "method": RECOMMEND,
        "calls": calls,
        "callers": _PATIENT_CALLERS,
        "connections": 1,
        "seconds": seconds,
    }
    made = await drive_plan(plan)
    return Figures(
        made.per_second, made.at(0.5), made.at(0.99), made.at(0.999), calls=len(made.took_ms)
    )


async def sizes(bench: Bench) -> Result:
    """Catalogues of several sizes, the same users: computed answers, and the index's recall."""
    if not bench.form.sizes:
        return Result(note="not run: of make bench-long")
    sides: dict[str, Figures] = {}
    recalls: dict[int, float] = {}
    for size in bench.form.sizes:
        tenant = f"size-{size}"
        users = await filling.catalogue(
            bench.world,
            tenant,
            size,
            dimension=bench.form.dimension,
            users=min(200, bench.form.users),
        )
        serving = await bench.world.serve("none")
        await full_answer(serving, users[0], bench.world.caller(tenant))
        if not sides and size >= _LARGE:
            await asyncio.sleep(_WARMING_SECS)  # of the largest, beside the smallest's figure
        recalls[size] = await recall_of(bench, tenant)
        side = recommend_side(bench, serving, tenant, users, _PATIENT_CALLERS)
        (sides[f"{size:,}"],) = await contest([side], bench.plan)
    smallest, *_, largest = bench.form.sizes
    lines = [
        Line(
            f"{largest:,}: cold p50 ms",
            sides[f"{largest:,}"].p50_ms,
            sides[f"{smallest:,}"].p50_ms,
            Goal(2.5, 2.0, at_most=True),
        )
    ]
    lines += [
        Line(f"{size:,}: recall@{_NEAREST}", recall, 1.0, Goal(0.98, 0.99))
        for size, recall in recalls.items()
    ]
    return Result(lines, sides)


async def recall_of(bench: Bench, tenant: str) -> float:
    """The share of the truly nearest 20 of users' profiles that a search as the service's finds."""
    world, dimension = bench.world, bench.form.dimension
    await filling.know_vectors(world)
    vectors = await filling.vectors_of(world, tenant, _SAMPLES)
    placement, width = await filling.search_of(world, tenant)
    column = f"feature_vector::halfvec({dimension})"
    query = f"SELECT entity_no FROM entities_p{placement} ORDER BY {column} <=> $1 LIMIT {_NEAREST}"
    found = []
    for vector in vectors.values():
        each = []
        for exact in (True, False):
            async with world.postgres.transaction():
                await world.postgres.execute(
                    f"SET LOCAL enable_indexscan = {'off' if exact else 'on'};"
                    f" SET LOCAL enable_seqscan = {'on' if exact else 'off'};"
                    f" SET LOCAL enable_sort = {'on' if exact else 'off'};"
                    f" SET LOCAL hnsw.ef_search = {width};"
                    " SET LOCAL hnsw.iterative_scan = 'relaxed_order'"
                )
                rows = await world.postgres.fetch(query, filling.halfvec(vector))
            each.append({row["entity_no"] for row in rows})
        found.append(len(each[0] & each[1]) / _NEAREST)
    return float(np.mean(found))
