"""IngestInteraction by many callers at once: few transactions, and each caller's own outcome."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest
from penchant.v1 import admin_pb2, interaction_pb2

from engine import group_commit
from engine.group_commit import GroupCommit
from server.deps import connect
from server.settings import Settings
from server.wiring import build_server
from storage import interactions
from tests.rpc.conftest import Refusal, Service, book, interaction, refusal_of
from tests.waiting import until

_GUARD = 1346719310
REUSED = ("ALREADY_EXISTS", "INTERACTION_ID_REUSED")


@asynccontextmanager
async def held(service: Service) -> AsyncIterator[None]:
    """Nothing of tenant `a` is stored within this block."""
    async with service.deps.maintenance.transaction(None) as connection:
        await connection.execute(
            "SELECT pg_advisory_xact_lock($1, tenant_no) FROM tenants WHERE tenant_id = 'a'",
            _GUARD,
        )
        yield


def begin(service: Service, timeout: float = 60, **fields: Any) -> Any:
    """A call that has been sent, perhaps."""
    return service.interaction.IngestInteraction(
        interaction_pb2.IngestInteractionRequest(interaction=interaction(**fields)),
        metadata=(("x-tenant-id", "a"),),
        timeout=timeout,
    )


async def outcome(call: Any) -> interaction_pb2.IngestAck | Refusal:
    """The ack, or how the call was refused."""
    try:
        return (await call).ack
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)


async def outcomes(calls: Sequence[Any]) -> list[interaction_pb2.IngestAck | Refusal]:
    return list(await asyncio.gather(*map(outcome, calls)))


async def statements(service: Service, count: int) -> None:
    """Waits until so many statements wait for the tenant."""

    async def wait() -> bool:
        async with service.deps.maintenance.connection(None) as connection:
            found: int = await connection.fetchval(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE l.classid = $1 AND NOT l.granted AND d.datname = current_database()",
                _GUARD,
            )
        return found >= count

    await until(wait)


async def all_under_way(service: Service) -> list[Any]:
    """Calls whose groups are under way behind the lock: as many as may be."""
    calls = []
    for number in range(4):
        calls.append(begin(service, interaction_id=f"first{number}"))
        await statements(service, number + 1)
    return calls


async def waiting(service: Service, count: int) -> None:
    """Waits until so many rows wait in the queue."""

    async def wait() -> bool:
        lane = service.deps.log._groups._lanes.get("a")
        return lane is not None and len(lane.waiting) == count

    await until(wait)


async def keys(service: Service) -> dict[str, int]:
    """The transactions of the ids that are stored, which the log holds once each."""
    async with service.deps.maintenance.connection(None) as connection:
        # One statement: of two the second might see a group that committed in between.
        rows = await connection.fetch(
            "SELECT k.interaction_id AS key, i.interaction_id AS logged, k.transaction_id"
            " FROM (SELECT * FROM interaction_keys WHERE tenant_id = 'a') AS k"
            " FULL JOIN (SELECT * FROM interactions WHERE tenant_id = 'a') AS i"
            " USING (interaction_id) ORDER BY interaction_id"
        )
    assert [row["logged"] for row in rows] == [row["key"] for row in rows]
    stored = {row["key"]: row["transaction_id"] for row in rows}
    assert len(stored) == len(rows)
    return stored


def codes(given: Sequence[interaction_pb2.IngestAck | Refusal]) -> list[str]:
    return [each.reason if isinstance(each, Refusal) else "OK" for each in given]


async def test_concurrent_calls_share_transactions(library: Service):
    async with held(library):
        calls = [begin(library, interaction_id=f"i{n}", user_id=f"u{n % 7}") for n in range(60)]
        await statements(library, 1)
    acks = await outcomes(calls)
    assert [ack.interaction_id for ack in acks] == [f"i{n}" for n in range(60)]
    stored = await keys(library)
    assert len(stored) == 60
    assert len(set(stored.values())) < 20
    tokens = {stored[ack.interaction_id]: ack.freshness_token for ack in acks}
    assert len(set(tokens.values())) == len(tokens) == len(set(stored.values()))
    async with library.deps.maintenance.connection(None) as connection:
        counts = await connection.fetch("SELECT interaction_count FROM user_profiles")
    assert sum(row["interaction_count"] for row in counts) == 60


async def test_row_that_the_database_refuses_fails_alone(service: Service, database_url: str):
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "ALTER TABLE interactions ADD CONSTRAINT good CHECK (user_id <> 'poison')"
        )
    finally:
        await connection.close()
    users = [f"u{n}" for n in range(30)]
    users[13] = "poison"
    async with held(service):
        calls = [begin(service, interaction_id=f"i{n}", user_id=u) for n, u in enumerate(users)]
        calls.append(begin(service, interaction_id="bad", weight=float("nan")))
        await statements(service, 1)
    given = codes(await outcomes(calls))
    assert given == ["INTERNAL" if u == "poison" else "OK" for u in users] + ["INVALID_ARGUMENT"]
    assert sorted(await keys(service)) == sorted(f"i{n}" for n in range(30) if n != 13)


async def test_fault_after_the_commit_doubles_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    outcomes_of = interactions._outcomes
    faults = []

    def stumble(rows: Sequence[Any], *of: Any) -> Any:
        if len(rows) > 1 and not faults:
            faults.append(len(rows))
            raise ZeroDivisionError
        return outcomes_of(rows, *of)

    monkeypatch.setattr(interactions, "_outcomes", stumble)
    async with held(service):
        calls = [begin(service, user_id=f"u{n}") for n in range(12)]
        await statements(service, 1)
    assert codes(await outcomes(calls)) == ["OK"] * 12
    assert len(await keys(service)) == 12
    assert faults


async def test_duplicates_among_concurrent_calls(service: Service):
    async with held(service):
        same = [begin(service, interaction_id="i1") for _ in range(5)]
        await statements(service, 1)
        other = begin(service, interaction_id="i1", weight=9)
        await statements(service, 2)
    acks = await outcomes(same)
    refusal = await outcome(other)
    if codes(acks) != ["OK"] * 5:
        # Both wait in one line of sharers, who go on together: either may be the first to store.
        assert codes([refusal]) == ["OK"]
        assert {(ack.code, ack.reason) for ack in acks} == {REUSED}
    else:
        assert (refusal.code, refusal.reason) == REUSED
        # Of one that was stored a moment before the token is a later one.
        assert len({(ack.interaction_id, ack.received_at.ToNanoseconds()) for ack in acks}) == 1
    assert list(await keys(service)) == ["i1"]


async def test_cancelled_calls_are_neither_lost_nor_doubled(service: Service):
    dice = random.Random(6)
    names = [f"i{number}" for number in range(150)]

    async def once(name: str, patience: float) -> str | None:
        call = begin(service, interaction_id=name)
        asyncio.get_running_loop().call_later(patience, call.cancel)
        try:
            return (await call).ack.interaction_id
        except asyncio.CancelledError:
            return None

    acknowledged = await asyncio.gather(*(once(name, dice.uniform(0, 0.2)) for name in names))
    assert set(filter(None, acknowledged)) <= set(await keys(service))
    for name in names:
        # Not at once: streams that were cancelled count for a moment.
        assert (await begin(service, interaction_id=name)).ack.interaction_id == name
    assert set(await keys(service)) == set(names)
    async with service.deps.maintenance.connection(None) as connection:
        count = await connection.fetchval("SELECT interaction_count FROM user_profiles")
    assert count == 150


async def test_call_that_ends_in_the_queue_is_not_stored(service: Service):
    async with held(service):
        first = await all_under_way(service)
        cancelled = begin(service, interaction_id="cancelled")
        late = begin(service, timeout=5, interaction_id="late")
        await waiting(service, 2)
        cancelled.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await waiting(service, 0)
        last = begin(service, interaction_id="last")
        await waiting(service, 1)
    assert codes(await outcomes([*first, last])) == ["OK"] * 5
    assert sorted(await keys(service)) == ["first0", "first1", "first2", "first3", "last"]


async def test_full_queue_refuses_with_a_time(service: Service, monkeypatch: pytest.MonkeyPatch):
    log = service.deps.log
    monkeypatch.setattr(log, "_groups", GroupCommit(log.ingest, most_waiting=2))
    async with held(service):
        calls = await all_under_way(service)
        calls += [begin(service, interaction_id=f"second{n}") for n in range(2)]
        await waiting(service, 2)
        refusal = await outcome(begin(service, interaction_id="refused"))
        await service.make_tenant("b")
        await service.did("ada", "b00", tenant="b")
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED")
    assert refusal.retry
    assert codes(await outcomes(calls)) == ["OK"] * 6
    assert "refused" not in await keys(service)


@pytest.mark.parametrize(
    ("quotas", "stored"), [({"interactions_per_day": 5}, 5), ({"entities": 3}, 10)]
)
async def test_quota_that_some_exceed_refuses_those_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch, quotas, stored
):
    # One group at a time: those that run at the same time may go beyond together.
    monkeypatch.setattr(group_commit, "_SLOW_SECS", 60)
    await service.put("b00")
    limits = admin_pb2.SetQuotasRequest(tenant_id="a", quotas=admin_pb2.Quotas(**quotas))
    await service.call("SetQuotas", limits, tenant=None)
    given = await outcomes(
        [
            begin(service, interaction_id=f"i{n}", entity=book("b00" if n < 8 else f"new{n}"))
            for n in range(12)
        ]
    )
    assert sorted(codes(given)) == ["OK"] * stored + ["QUOTA_EXCEEDED"] * (12 - stored)
    assert len(await keys(service)) == stored


async def test_worker_that_drains_stores_what_waits(settings: Settings):
    async with connect(settings) as deps:
        server = build_server(settings, deps)
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            service = Service(settings, deps, channel, port)
            await service.make_tenant("a")
            async with held(service):
                calls = [begin(service, interaction_id=f"i{n}") for n in range(20)]

                async def arrived() -> bool:
                    return server._edge.admission.in_flight == 20

                await until(arrived)
                stopping = asyncio.create_task(server.stop(30))
                await asyncio.sleep(0.2)
            acks = await outcomes(calls)
            await stopping
        assert codes(acks) == ["OK"] * 20
        assert len(await keys(service)) == 20
