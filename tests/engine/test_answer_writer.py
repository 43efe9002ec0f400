"""Writing the answer log: batches, what is dropped and counted, and the last batch."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from engine import answer_writer
from engine.answer_log import LoggedAnswer, decode
from engine.answer_writer import AnswerWriter
from engine.answers import Answer
from engine.requests import RecommendQuery
from engine.secret import ServerSecret
from engine.sources import Inputs
from engine.tombstones import Tombstones
from storage.answer_log import AnswerLogStore
from storage.database import Database
from storage.tenants import Tenant, TenantStore
from storage.vector_store import Candidate


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of a busy machine must not look like a PostgreSQL that does not store."""
    for name in ("_RECORD_SECS", "_WRITE_SECS", "_LAST_SECS"):
        monkeypatch.setattr(answer_writer, name, 60)


@pytest.fixture
async def shop(database: Database, maintenance_database: Database) -> Tenant:
    """A tenant without rows."""
    return await TenantStore(database, maintenance_database).create("shop")


@pytest.fixture
def make_writer(
    database: Database, maintenance_database: Database, tmp_path: Path
) -> Callable[[float], AnswerWriter]:
    """A function that makes a writer for a share of the answers."""
    store = AnswerLogStore(database, maintenance_database)
    tombstones = Tombstones(ServerSecret(tmp_path, None))
    return lambda share: AnswerWriter(store, tombstones, share=share, days=7)


MakeWriter = Callable[[float], AnswerWriter]


def logged(name: str, *, record: bool = False, candidates: int = 1) -> LoggedAnswer:
    query = RecommendQuery(user_id="ada", record=record)
    offered = [Candidate(n, "book", f"b{n}", ["popular"], [1.0]) for n in range(candidates)]
    inputs = Inputs("unknown", None, None, ())
    answer = Answer((), recommendation_id=name, model_versions=("m@1",))
    return LoggedAnswer(datetime.now(UTC), query, answer, offered, inputs, {"popular": 1.0})


def written() -> float:
    return REGISTRY.get_sample_value("penchant_answer_log_written_total") or 0.0


def dropped(reason: str) -> float:
    labels = {"reason": reason}
    return REGISTRY.get_sample_value("penchant_answer_log_dropped_total", labels) or 0.0


async def test_a_recorded_answer_is_there_when_the_call_returns(
    make_writer: MakeWriter, database: Database, shop: Tenant
) -> None:
    store, before = AnswerLogStore(database), written()
    async with make_writer(0.0) as writer:
        assert await writer.log("shop", logged("r1", record=True))
        row = await store.get(shop, "r1")
        assert row is not None
        assert (row.user_id, row.model_versions) == ("ada", ("m@1",))
        assert decode(row.payload).answer.recommendation_id == "r1"
        both = await asyncio.gather(
            *(writer.log("shop", logged(name, record=True)) for name in ("r2", "r3"))
        )
        assert both == [True, True]
    assert written() - before == 3


async def test_what_waits_is_written_at_the_end(
    make_writer: MakeWriter, database: Database, shop: Tenant
) -> None:
    async with make_writer(1.0) as writer:
        for number in range(700):
            assert await writer.log("shop", logged(f"r{number}"))
    assert await AnswerLogStore(database).count_user("shop", "ada") == 700
    before = dropped("closed")
    assert not await writer.log("shop", logged("late", record=True))
    assert dropped("closed") - before == 1


async def test_what_does_not_fit_is_dropped_and_counted(
    make_writer: MakeWriter, database: Database, shop: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_writer, "_MAX_WAITING", 10)
    before = dropped("full")
    async with make_writer(1.0) as writer:
        for number in range(5):
            await writer.log("shop", logged(f"r{number}", candidates=8))
        assert not await writer.log("shop", logged("late", record=True))
    assert dropped("full") - before == 4
    assert await AnswerLogStore(database).count_user("shop", "ada") == 2


async def test_without_storage_answers_are_counted_as_dropped(
    make_writer: MakeWriter, maintenance_database: Database, database: Database, shop: Tenant
) -> None:
    await maintenance_database.close()
    before = dropped("storage")
    async with make_writer(1.0) as writer:
        assert not await writer.log("shop", logged("r1", record=True))
        await writer.log("shop", logged("r2"))
    assert dropped("storage") - before == 2
    assert await AnswerLogStore(database).count_user("shop", "ada") == 0


async def test_a_fault_over_one_batch_does_not_end_the_log(
    make_writer: MakeWriter, database: Database, shop: Tenant
) -> None:
    before = dropped("fault")
    async with make_writer(1.0) as writer:
        broken = replace(logged("r1", record=True), settings={"no": object()})
        assert not await writer.log("shop", broken)
        assert await writer.log("shop", logged("r2", record=True))
    assert dropped("fault") - before == 1
    assert await AnswerLogStore(database).count_user("shop", "ada") == 1


async def test_answers_of_a_tenant_that_is_not_there_are_not_recorded(
    make_writer: MakeWriter, shop: Tenant
) -> None:
    before = dropped("erased")
    async with make_writer(0.0) as writer:
        outcomes = await asyncio.gather(
            writer.log("none", logged("r1", record=True)),
            writer.log("shop", logged("r2", record=True)),
        )
    assert list(outcomes) == [False, True]
    assert dropped("erased") - before == 1


@pytest.mark.parametrize(
    ("share", "record", "expected"), [(0, False, 0), (1, False, 100), (0, True, 100)]
)
def test_the_share_says_how_many_are_wanted(
    make_writer: MakeWriter, share: float, record: bool, expected: int
) -> None:
    writer = make_writer(share)
    assert sum(writer.wants(record) for _ in range(100)) == expected
