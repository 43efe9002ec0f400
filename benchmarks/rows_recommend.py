"""Rows of Recommend: out of memory, out of Redis, computed, from a model, and many at once."""

from base64 import b64encode
from dataclasses import replace
from typing import Any

from penchant.v1 import recommendation_pb2 as pb

from benchmarks import datasets, filling, references
from benchmarks.bench import TENANT, Bench, Goal, Line, Result, compared
from benchmarks.contest import Failed, Figures, Side, contest
from benchmarks.h2load import Metadata, Work
from benchmarks.world import Serving

RECOMMEND = "/penchant.v1.RecommendationService/Recommend"
BATCH = "/penchant.v1.RecommendationService/BatchRecommend"

_WANTED = 20
_HOT_CALLERS = 16
_COLD_CALLERS = 8


async def answer_of(serving: Serving, method: str, body: bytes, metadata: Metadata) -> bytes:
    """One ordinary call's answer, as its bytes."""
    call: Any = serving.channel.unary_unary(method)
    return bytes(await call(body, metadata=metadata, timeout=60))


def request_of(user: str) -> bytes:
    """A user's list as most callers ask for it, attributes and all."""
    return pb.RecommendRequest(user_id=user).SerializeToString()


async def full_answer(serving: Serving, user: str, metadata: Metadata) -> bytes:
    """A user's answer.

    Raises:
        Failed: it is not a full list.
    """
    answer = await answer_of(serving, RECOMMEND, request_of(user), metadata)
    parsed = pb.RecommendResponse.FromString(answer)
    if len(parsed.items) != _WANTED or parsed.degraded:
        raise Failed(f"{len(parsed.items)} items, degraded: {list(parsed.degraded)}")
    return answer


def recommend_side(
    bench: Bench,
    serving: Serving,
    tenant: str,
    users: list[str],
    callers: int,
    connections: int = 1,
) -> Side:
    """Recommend for some users, who change from round to round if there are more."""
    bodies = [request_of(user) for user in users]
    count = callers if len(bodies) >= callers else 1
    work = Work(
        serving.target, RECOMMEND, bodies[:count], callers, bench.world.caller(tenant), connections
    )
    return Side(
        work,
        bodies if count > 1 else (),
        serving.workers,
        bench.world.backend_pids,
        serving.codes,
    )


async def _from_cache(
    bench: Bench, caches: str, kind: str, per_second: Goal, p99: Goal | None = None
) -> Result:
    users = await bench.catalogue()
    serving = await bench.world.serve(caches)
    caller = bench.world.caller(TENANT)
    answer = await full_answer(serving, users[0], caller)
    ours = recommend_side(bench, serving, TENANT, users[:1], _HOT_CALLERS, 4)
    with references.reference(kind, answer, url=bench.world.redis_url) as bare:
        work = Work(bare.target, references.METHOD, ours.work.bodies, _HOT_CALLERS, (), 4)
        theirs = Side(work, (), [bare.pid], bench.world.backend_pids)
        mine, reference = await contest([ours, theirs], bench.plan)
    await full_answer(serving, users[0], caller)
    return _beside(mine, reference, per_second, p99)


def _beside(mine: Figures, reference: Figures, per_second: Goal, p99: Goal | None = None) -> Result:
    return Result(
        compared(mine, reference, per_second, p99), {"ours": mine, "reference": reference}
    )


async def hot(bench: Bench) -> Result:
    """The same request again and again."""
    return await _from_cache(bench, "all", "echo", Goal(0.85, 0.95), Goal(1.3, 1.3, at_most=True))


async def redis(bench: Bench) -> Result:
    """The same request where only Redis remembers."""
    return await _from_cache(bench, "redis", "redis_get", Goal(0.7, 0.85))


async def hnsw_plan(bench: Bench, users: int) -> dict[str, Any]:
    """What the bare handler must know of TENANT."""
    vectors = await filling.vectors_of(bench.world, TENANT, users)
    placement, width = await filling.search_of(bench.world, TENANT)
    return {
        "url": bench.world.url,
        "vectors": {
            user: b64encode(filling.halfvec(vector)).decode() for user, vector in vectors.items()
        },
        "dimension": bench.form.dimension,
        "placement": placement,
        "ef_search": width,
    }


async def against_hnsw(bench: Bench, tenant: str, users: list[str]) -> tuple[Figures, Figures]:
    """A tenant's computed answers beside the bare handler's over TENANT."""
    serving = await bench.world.serve("none")
    await full_answer(serving, users[0], bench.world.caller(tenant))
    plan = await hnsw_plan(bench, 500)
    ours = recommend_side(bench, serving, tenant, users, _COLD_CALLERS)
    bodies = [request_of(user) for user in plan["vectors"]]
    with references.reference("hnsw", **plan) as bare:
        work = Work(bare.target, references.METHOD, bodies[:_COLD_CALLERS], _COLD_CALLERS)
        theirs = Side(work, bodies, [bare.pid], bench.world.backend_pids)
        mine, reference = await contest([ours, theirs], bench.plan)
    return mine, reference


async def cold(bench: Bench) -> Result:
    """Every answer computed, from all sources."""
    users = await bench.catalogue()
    mine, reference = await against_hnsw(bench, TENANT, users)
    return _beside(mine, reference, Goal(0.45, 0.7), Goal(2.0, 2.0, at_most=True))


async def matrix(bench: Bench) -> Result:
    """Every answer computed, from a neighbour-matrix model."""
    if bench.form.events < datasets.ML100K_EVENTS:
        tenant, log = "ml", datasets.ml100k(None, bench.form.events)
    elif bench.gowalla is None:
        return Result(note="not run: no --gowalla")
    else:
        tenant, log = "gowalla", datasets.gowalla(bench.gowalla)
    await bench.catalogue()
    users = await filling.modelled(bench.world, tenant, log, "item_knn")
    mine, reference = await against_hnsw(bench, tenant, users[:500])
    return _beside(mine, reference, Goal(0.45, 1.0))


async def batch(bench: Bench) -> Result:
    """Lists for 100 users in one call, beside 100 calls: ready ones, and computed ones."""
    lines: list[Line] = []
    figures: dict[str, Figures] = {}
    for kind, lists, one in (
        ("ready", *await _batches(bench, "all", in_turn=False)),
        # h2load's few callers would ask for few users, of whom a worker soon knows everything.
        ("computed", *await _batches(bench, "none", in_turn=True)),
    ):
        lines += [
            Line(f"{kind} lists/s", lists.per_second, one.per_second, Goal(3.0, 6.0)),
            Line(f"CPU ms a {kind} list", lists.cpu_ms, one.cpu_ms),
        ]
        figures |= {f"ours, {kind}": lists, f"reference, {kind}": one}
    return Result(tuple(lines), figures)


async def _batches(bench: Bench, caches: str, *, in_turn: bool) -> tuple[Figures, Figures]:
    """Figures of a list in batches, and of one by itself.

    Args:
        in_turn: both sides ask for the same users, of two batches a round.
    """
    users = await bench.catalogue()
    serving = await bench.world.serve(caches)
    caller = bench.world.caller(TENANT)
    size = min(100, len(users) // 8)
    bodies = [
        pb.BatchRecommendRequest(
            requests=[pb.RecommendRequest(user_id=user) for user in users[start : start + size]]
        ).SerializeToString()
        for start in range(0, len(users) - size + 1, size)
    ]
    answer = pb.BatchRecommendResponse.FromString(
        await answer_of(serving, BATCH, bodies[0], caller)
    )
    if any(len(each.response.items) != _WANTED for each in answer.results):
        raise Failed("a list of a batch is not full")
    batches = Side(
        Work(serving.target, BATCH, bodies[:2], 2, caller, in_turn=in_turn),
        bodies,
        serving.workers,
        bench.world.backend_pids,
        serving.codes,
    )
    calls = recommend_side(bench, serving, TENANT, users, _COLD_CALLERS)
    if in_turn:
        same = [request_of(user) for user in users[: size * len(bodies)]]
        work = replace(calls.work, bodies=same[: 2 * size], in_turn=True)
        calls = replace(calls, work=work, bodies=same)
    many, one = await contest([batches, calls], bench.plan)
    lists = Figures(
        many.per_second * size,
        many.p50_ms,
        many.p99_ms,
        many.p999_ms,
        many.cpu_ms / size,
        many.backend_cpu_ms / size,
        many.calls,
    )
    return lists, one
