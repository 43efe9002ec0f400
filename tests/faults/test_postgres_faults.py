"""PostgreSQL is stopped, killed, frozen, full, read only, crowded or replaced under a service."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penchant.v1 import recommendation_pb2
from prometheus_client import REGISTRY

from server.settings import Settings
from storage.embedded.accounts import let_through, postgres_account
from tests.faults.backends import Backends
from tests.faults.conftest import execute, idle
from tests.rpc.conftest import Refusal, Service, ids, refusal_of, running, settings_for
from tests.service.processes import children_of, frozen
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)

INTERACTIONS = "penchant.v1.InteractionService"
RECOMMENDATIONS = "penchant.v1.RecommendationService"
RECOVERY_SECS = 5.0
SLACK_SECS = 5.0
"""What a busy machine may add."""


@pytest.fixture
def settings(broken_url: str, backends: Backends, tmp_path: Path) -> Settings:
    # What lies ready anywhere would be given without asking PostgreSQL, and rightly so.
    nothing_kept = {"wire_cache_bytes": 0, "result_cache_ttl_secs": 0}
    return settings_for(broken_url, backends.redis_url, tmp_path).model_copy(update=nothing_kept)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    """A service with books that Ada and Bob were recommended already."""
    async with running(settings) as service:
        for number in range(12):
            await service.put(f"b{number:02}", genre=("sf", "crime")[number % 2])
        await service.did("ada", "b00")
        await service.did("bob", "b01")
        await until(lambda: serving(service, INTERACTIONS))
        yield service


async def serving(service: Service, name: str) -> bool:
    stub = health_pb2_grpc.HealthStub(service.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def storable(service: Service) -> bool:
    """Whether an interaction can be stored; it must be refused as written down, otherwise."""
    try:
        await service.did("eve", "b05")
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert (refusal.code, refusal.retry) == ("UNAVAILABLE", True), refusal
        return False
    return True


async def refusal(service: Service, user: str = "ada", **fields: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.recommend(user, **fields)
    return refusal_of(caught.value)


async def recovered(service: Service) -> None:
    """Everything is as before, within the promised time and without a restart."""

    async def well() -> bool:
        return (
            await storable(service)
            and not (await service.recommend("ada")).degraded
            and await serving(service, INTERACTIONS)
            and await serving(service, RECOMMENDATIONS)
        )

    await until(well, RECOVERY_SECS + SLACK_SECS)
    assert open_breakers() == 0


def open_breakers() -> float:
    return REGISTRY.get_sample_value("penchant_breaker_open", {"component": "postgresql"}) or 0


def degraded(kind: str) -> float:
    labels = {"component": "postgresql", "answer": kind}
    return REGISTRY.get_sample_value("penchant_degraded_answers_total", labels) or 0


async def away(service: Service) -> None:
    async def so() -> bool:
        return not await serving(service, INTERACTIONS)

    await until(so)


async def test_answers_are_the_last_good_ones_while_postgres_is_stopped(
    service: Service, backends: Backends
) -> None:
    before = await service.recommend("ada", page_size=5)
    assert not before.degraded
    counted = degraded("last_good")
    os.kill(backends.postgres, signal.SIGINT)
    await away(service)
    after = await service.recommend("ada", page_size=5)
    assert list(after.degraded) == ["postgresql"]
    assert after.items == before.items
    assert after.recommendation_id == before.recommendation_id
    assert not after.next_page_token
    batch = recommendation_pb2.BatchRecommendRequest()
    for user in ("ada", "nobody"):
        batch.requests.add(user_id=user, page_size=5, filter='attributes.genre = "sf"')
    batch.requests.add(user_id="ada", page_size=5)
    results = (await service.call("BatchRecommend", batch)).results
    assert [result.WhichOneof("result") for result in results] == ["error", "error", "response"]
    assert list(results[2].response.degraded) == ["postgresql"]
    assert degraded("last_good") == counted + 2
    assert await serving(service, RECOMMENDATIONS)
    await backends.start_again()
    await recovered(service)


async def test_similar_and_trending_are_as_they_last_were_while_postgres_is_stopped(
    service: Service, backends: Backends
) -> None:
    like = recommendation_pb2.SimilarEntitiesRequest(page_size=3)
    like.entity.entity_type, like.entity.entity_id = "book", "b02"
    await service.run_jobs()
    asked = (("SimilarEntities", like), ("Trending", recommendation_pb2.TrendingRequest()))
    before = [await service.call(method, request) for method, request in asked]
    assert all(answer.items and not answer.degraded for answer in before)
    os.kill(backends.postgres, signal.SIGINT)
    await away(service)
    after = [await service.call(method, request) for method, request in asked]
    assert [list(answer.degraded) for answer in after] == [["postgresql"]] * 2
    assert [answer.items for answer in after] == [answer.items for answer in before]
    like.entity.entity_id = "b03"
    told = await service.refused("SimilarEntities", like)
    assert (told.code, told.retry) == ("UNAVAILABLE", True)
    await backends.start_again()
    await recovered(service)


async def test_unasked_requests_get_what_is_popular_while_postgres_is_stopped(
    service: Service, backends: Backends
) -> None:
    await service.recommend("ada")
    await service.recommend("ada", entity_type="book")
    await until(lambda: listed(service, 2))
    os.kill(backends.postgres, signal.SIGINT)
    await away(service)
    first = await service.recommend("zoe", page_size=4)
    assert (len(first.items), list(first.degraded)) == (4, ["postgresql"])
    typed = await service.recommend("zoe", entity_type="book", exclude=[first.items[0].entity])
    assert first.items[0].entity not in [item.entity for item in typed.items]
    assert len(typed.items) == 11
    for fields in (
        {"entity_type": "film"},
        {"filter": 'attributes.genre = "sf"'},
        {"model_version": "main@latest"},
    ):
        told = await refusal(service, "zoe", **fields)
        assert (told.code, told.reason, told.retry) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE", True)
    await backends.start_again()
    await recovered(service)


async def listed(service: Service, count: int) -> bool:
    """Whether so many popular lists are kept; asks on, since one is read at a time."""
    await service.recommend("ada", entity_type="book")
    entries = service.deps.last_good._entries
    return sum(page_size == -1 for _, _, page_size in entries) >= count


async def test_answer_is_not_older_than_the_token_that_the_caller_brings(
    service: Service, backends: Backends
) -> None:
    token = (await service.did("ada", "b03")).freshness_token
    await service.recommend("ada")
    newer = (await service.did("ada", "b04")).freshness_token
    os.kill(backends.postgres, signal.SIGINT)
    await away(service)
    known = await service.recommend("ada", at_least_as_fresh=token)
    assert list(known.degraded) == ["postgresql"]
    told = await refusal(service, at_least_as_fresh=newer)
    assert (told.code, told.reason) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
    await backends.start_again()
    await recovered(service)


async def test_tenant_unknown_to_the_worker_is_unavailable_while_postgres_is_stopped(
    service: Service, backends: Backends
) -> None:
    await service.recommend("ada")
    os.kill(backends.postgres, signal.SIGINT)
    await away(service)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.recommend("ada", tenant="b")
    assert refusal_of(caught.value).code == "UNAVAILABLE"
    await backends.start_again()
    await recovered(service)


async def test_erased_user_has_no_last_good_answer(service: Service, backends: Backends) -> None:
    before = await service.recommend("ada")
    tenant = await service.deps.tenants.get("a")
    service.deps.last_good.forget(tenant.tenant_no, "ada")
    await service.recommend("ada")
    os.kill(backends.postgres, signal.SIGINT)
    await away(service)
    after = await service.recommend("ada")
    assert after.recommendation_id != before.recommendation_id
    assert {reason.source for item in after.items for reason in item.reasons} <= {
        "popular",
        "newest",
    }
    await backends.start_again()
    await recovered(service)


async def test_killed_postgres_comes_back_without_a_restart_of_the_service(
    service: Service, backends: Backends
) -> None:
    await service.recommend("ada")
    os.kill(backends.postgres, signal.SIGKILL)
    await away(service)
    assert list((await service.recommend("ada")).degraded) == ["postgresql"]
    assert not await storable(service)
    await backends.start_again()
    await recovered(service)


async def test_frozen_postgres_lets_calls_go_and_refuses_others_at_once(
    service: Service, backends: Backends
) -> None:
    before = await service.recommend("ada")
    with frozen(backends.postgres), frozen(*children_of(backends.postgres)):
        begun = time.monotonic()
        calls = [service.recommend("ada") for _ in range(20)]
        # More than there are connections: some wait for one, the others for an answer.
        writes = [storable(service) for _ in range(20)]
        answers, stored = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*writes))
        assert time.monotonic() - begun < 4 + SLACK_SECS
        assert [list(answer.degraded) for answer in answers] == [["postgresql"]] * 20
        assert all(answer.items == before.items for answer in answers)
        assert not any(stored)
        await away(service)
        assert open_breakers() == 1
        begun = time.monotonic()
        for _ in range(20):
            assert list((await service.recommend("ada")).degraded) == ["postgresql"]
            assert not await storable(service)
        assert (time.monotonic() - begun) / 40 < 0.1
    await recovered(service)
    # Not at once: what runs beside the calls, such as the watch over erasures, may have one.
    await until(lambda: idle(service))


async def test_read_only_postgres_answers_and_refuses_writes(
    service: Service, broken_url: str
) -> None:
    await execute(
        broken_url,
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    )
    try:
        await away(service)
        assert not (await service.recommend("ada")).degraded
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.did("ada", "b07")
        told = refusal_of(caught.value)
        assert (told.code, told.reason, told.retry) == ("UNAVAILABLE", "DATABASE_READ_ONLY", True)
        assert await serving(service, RECOMMENDATIONS)
    finally:
        await execute(
            broken_url,
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )
    await recovered(service)
    assert ids(await service.recommend("ada"))


async def test_server_without_connections_refuses_in_time_and_reads_are_degraded(
    service: Service, broken_url: str
) -> None:
    before = await service.recommend("ada")
    taken = await all_connections(broken_url)
    try:
        assert not (await service.recommend("ada")).degraded  # its own are still there
        ours = "FROM pg_stat_activity WHERE application_name = 'penchant'"
        async with asyncio.timeout(60):
            while await taken[0].fetchval(f"SELECT count(*) {ours}"):
                await taken[0].execute(f"SELECT pg_terminate_backend(pid) {ours}")
                taken += await all_connections(broken_url)
        begun = time.monotonic()
        for _ in range(10):
            answer = await service.recommend("ada")
            assert list(answer.degraded) == ["postgresql"]
            assert answer.items == before.items
            assert not await storable(service)
        assert time.monotonic() - begun < 5 + SLACK_SECS
        await away(service)
    finally:
        for connection in taken:
            connection.terminate()
    await recovered(service)


async def all_connections(url: str) -> list[asyncpg.Connection]:
    """Every connection that the server still gives, until it gives none for a while."""
    taken: list[asyncpg.Connection] = []
    refused = 0
    while refused < 5:
        some = await asyncio.gather(
            *(asyncpg.connect(url, timeout=20) for _ in range(20)), return_exceptions=True
        )
        got = [one for one in some if not isinstance(one, BaseException)]
        assert all(
            isinstance(one, asyncpg.TooManyConnectionsError) for one in some if one not in got
        )
        taken += got
        refused = 0 if got else refused + 1
    return taken


@pytest.fixture
def tight_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own that PostgreSQL may write to."""
    disk = tmp_path / "disk"
    disk.mkdir()
    account = postgres_account()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        pytest.skip(f"this user may mount nothing: {made.stderr.strip()}")
    try:
        space = disk / "space"
        space.mkdir(mode=0o700)
        if account is not None:
            os.chown(space, account.uid, account.gid)
            let_through(space)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_full_disk_refuses_writes_until_there_is_room(
    tight_disk: Path, broken_url: str, backends: Backends, tmp_path: Path
) -> None:
    name = broken_url.rpartition("/")[2]
    await execute(
        backends.database_url,
        f"CREATE TABLESPACE tight LOCATION '{tight_disk}/space'",
        f"ALTER DATABASE {name} SET TABLESPACE tight",
    )
    try:
        async with running(settings_for(broken_url, backends.redis_url, tmp_path)) as service:
            await service.put("b00")
            await service.put("b05")
            await until(lambda: serving(service, INTERACTIONS))
            before = await service.recommend("ada")
            filler = tight_disk / "filler"
            fill(filler)
            told = await first_refusal(service)
            assert (told.code, told.reason) == ("UNAVAILABLE", "DATABASE_DISK_FULL")
            assert told.retry
            await away(service)
            await asyncio.sleep(2)
            assert not await serving(service, INTERACTIONS)
            answer = await service.recommend("ada")
            assert (list(answer.degraded), ids(answer)) == ([], ids(before))
            assert await serving(service, RECOMMENDATIONS)
            filler.unlink()
            await recovered(service)
    finally:
        await execute(
            backends.database_url,
            f"ALTER DATABASE {name} SET TABLESPACE pg_default",
            "DROP TABLESPACE tight",
        )


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as target, pytest.raises(OSError, match="No space left"):
        while True:
            target.write(b"\0" * 4096)


async def first_refusal(service: Service) -> Refusal:
    """Books are stored until the pages that there are have no place left."""
    for number in range(500):
        try:
            await service.put(f"large-{number}", text=os.urandom(2000).hex())
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
    raise AssertionError("the disk takes everything")
