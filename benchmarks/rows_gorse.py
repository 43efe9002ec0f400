"""The row beside Gorse 0.5.11: its recorded figures, and ours on data of the same shape.

Gorse was measured on two such cores with MovieLens 100k and PostgreSQL: GET /api/recommend at 16
callers, POST /api/feedback at 64, and feedback in bulk. Ours has two workers, and the load
generator runs beside them on the same two cores.
"""

import asyncio
import time
from dataclasses import replace

from benchmarks import datasets, filling, service
from benchmarks.bench import Bench, Goal, Line, Result
from benchmarks.contest import Figures, Side, contest
from benchmarks.h2load import Work
from benchmarks.rows_ingest import BATCH, UNARY, check_durable, events, send, unary_bodies
from benchmarks.rows_recommend import full_answer, recommend_side
from benchmarks.world import Serving

GORSE_RECOMMEND = 724.0
GORSE_FEEDBACK = 829.0
GORSE_BULK = 24_000.0
"""The better end of 17,000 to 24,000."""

_TENANT = "ml"
_STREAMS = 4
_CALLERS = 16
_INGEST_CALLERS = 64


async def gorse(bench: Bench) -> Result:
    """Hot and computed answers, single interactions and batches, a second."""
    world = bench.world
    log = datasets.ml100k(bench.ml100k, bench.form.events)
    users = await filling.modelled(world, _TENANT, log, "item_knn")
    await check_durable(world)
    sides: dict[str, Figures] = {}
    for kind, caches, asked in (("hot", "all", users[:1]), ("cold", "none", users)):
        serving = await world.serve(caches, 2)
        await full_answer(serving, users[0], world.caller(_TENANT))
        connections = _CALLERS if kind == "hot" else 1
        side = recommend_side(bench, serving, _TENANT, asked, _CALLERS, connections)
        side = replace(side, work=replace(side.work, core=None))
        (sides[kind],) = await contest([side], bench.plan)
    serving = await world.serve("all", 2)
    work = Work(
        serving.target,
        UNARY,
        unary_bodies(log.item_names),
        _INGEST_CALLERS,
        world.caller(_TENANT),
        core=None,
    )
    side = Side(work, (), serving.workers, world.backend_pids, serving.codes)
    (sides["ingest"],) = await contest([side], bench.plan)
    sides["stream"] = await _streams(bench, serving, log)
    lines = (
        Line("hot: calls/s", sides["hot"].per_second, GORSE_RECOMMEND, Goal(10.0, 10.0)),
        Line("cold: calls/s", sides["cold"].per_second, GORSE_RECOMMEND, Goal(2.0, 3.0)),
        Line("ingest: calls/s", sides["ingest"].per_second, GORSE_FEEDBACK, Goal(3.0, 5.0)),
        Line("batches: rows/s", sides["stream"].per_second, GORSE_BULK, Goal(2.0, 4.0)),
    )
    return Result(lines, sides)


async def _streams(bench: Bench, serving: Serving, log: service.Log) -> Figures:
    """Some streams at once, each on a connection of its own."""
    world = bench.world
    batches = bench.form.batches * bench.plan.rounds
    made = [
        events(f"{time.time_ns():x}-{n}", batches, 943, log.item_names).requests
        for n in range(_STREAMS)
    ]
    async with service.channels(serving.target, _STREAMS) as channels:
        began = time.perf_counter()
        await asyncio.gather(
            *(
                send(channel, world.caller(_TENANT), requests)
                for channel, requests in zip(channels, made, strict=True)
            )
        )
        took = time.perf_counter() - began
    rows = _STREAMS * batches * BATCH
    return Figures(rows / took, calls=rows)
