"""One operation from the claim to a version that serves, and every way in which it can fail."""

import asyncio
import os
import sys
import time
from typing import Any

import numpy as np
import pytest

from engine.models import BY_NAME
from engine.models.artefact import open_artefact
from engine.models.forms import History
from jobs.context import JobContext
from jobs.operations import OperationRunner
from jobs.trainer import carry_out
from jobs.trainer_processes import Order, TrainerCommand
from server.settings import Settings as ServiceSettings
from server.transfer import write_settings
from storage.artefacts import FileArtefactStore
from storage.installation import artefacts_of
from storage.models import ModelStore
from storage.operations import Operation, OperationStore
from storage.training_metrics import TrainingMetricsStore
from storage.users import UserStore
from tests.jobs.conftest import Settings, Shop
from tests.jobs.slow_algorithm import DEAF, WAKE
from tests.waiting import until


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {**BY_NAME._specs, "slow": "tests.jobs.slow_algorithm:SLOW"}  # type: ignore[attr-defined]
    monkeypatch.setattr(BY_NAME, "_specs", specs)


@pytest.fixture
def store(context: JobContext) -> OperationStore:
    return OperationStore(context.service, context.maintenance)


@pytest.fixture
def models(context: JobContext) -> ModelStore:
    return ModelStore(context.service)


@pytest.fixture
async def artefacts(context: JobContext, settings: Settings) -> FileArtefactStore:
    return await artefacts_of(settings.data_dir, context.service)


@pytest.fixture
async def filled(shop: Shop) -> Shop:
    """Two groups of users with tastes of their own."""
    for user in range(12):
        for item in range(6):
            if (user + item) % 5:
                await shop.event(f"u{user}", f"{'a' if user % 2 else 'b'}{item}")
    return shop


async def carried_out(
    store: OperationStore, settings: Settings, shop: Shop, name: str, kind: str = "train", **request
) -> Operation:
    """The operation after its end."""
    started = await store.start(shop.tenant, kind, name, request)
    claimed = await store.claim("w", 60)
    assert claimed is not None
    await carry_out(settings, Order("", claimed.operation_id, "w", 60, os.getpid()))
    return await store.get(shop.tenant, started.operation_id)


async def test_training_makes_a_version_that_serves(
    store: OperationStore,
    settings: Settings,
    filled: Shop,
    models: ModelStore,
    artefacts: FileArtefactStore,
) -> None:
    await models.create(filled.tenant, "m", algorithm="item_knn", hyperparameters={"k": 7})
    ended = await carried_out(store, settings, filled, "m")
    assert (ended.state, ended.error_message) == ("succeeded", None)
    assert ended.response == {
        "version": "1",
        "promoted": True,
        "promotion_note": "No version served before.",
    }
    row = await models.version(filled.tenant, "m", "latest")
    assert row.metadata["algorithm"] == "item_knn"
    assert row.metadata["hyperparameters"]["k"] == 7
    assert row.metadata["statistics"]["n_users"] == 12
    assert row.metadata["statistics"]["n_items"] == 12
    assert row.metadata["peak_memory_bytes"] > 1 << 20
    assert row.metadata["duration_secs"] > 0
    assert row.manifest["form"] == "neighbours"
    assert row.manifest["statistics"] == row.metadata["statistics"]
    path = artefacts.path(row.content_hash)
    opened = open_artefact(path, row.content_hash)
    assert len(opened.model.entity_nos) == 12
    assert path.stat().st_size == row.size_bytes
    serving = await models.serving(filled.tenant)
    assert serving is not None
    assert (serving.model_name, serving.version) == ("m", "1")
    assert artefacts.hashes() == [row.content_hash]
    assert artefacts.discard_temporary(time.time()) == 0


@pytest.mark.parametrize(("rule", "promoted"), [("always", True), ("never", False)])
async def test_promotion_follows_the_models_rule(
    store: OperationStore,
    settings: Settings,
    filled: Shop,
    models: ModelStore,
    rule: str,
    promoted: bool,
) -> None:
    await models.create(filled.tenant, "m", algorithm="popularity", promotion=rule)
    ended = await carried_out(store, settings, filled, "m")
    assert ended.response is not None
    assert ended.response["promoted"] is promoted
    assert (await models.serving(filled.tenant) is not None) is promoted


async def test_version_that_is_worse_is_not_promoted(
    store: OperationStore, settings: Settings, filled: Shop, models: ModelStore
) -> None:
    await models.create(filled.tenant, "m", algorithm="popularity")
    await models.add_version(
        filled.tenant,
        "m",
        manifest={},
        metadata={"metrics": {"ndcg@20": 0.99, "ndcg@20.low": 0.98, "ndcg@20.high": 1.0}},
        content_hash="0" * 64,
        size_bytes=1,
    )
    await models.promote(filled.tenant, "m", "1", "by hand")
    ended = await carried_out(store, settings, filled, "m")
    assert ended.response is not None
    assert (ended.response["version"], ended.response["promoted"]) == ("2", False)
    assert "worse" in ended.response["promotion_note"]
    serving = await models.serving(filled.tenant)
    assert serving is not None
    assert serving.version == "1"
    measured = (await models.version(filled.tenant, "m", "2")).metadata["metrics"]
    assert 0 <= measured["ndcg@20"] < 0.98
    metrics = TrainingMetricsStore(models._database)
    kept = await metrics.get_training_metrics(filled.tenant, "m", "2")
    assert kept.metrics == measured


async def test_evaluation_answers_with_figures(
    store: OperationStore, settings: Settings, filled: Shop, models: ModelStore
) -> None:
    await models.create(filled.tenant, "m", algorithm="popularity")
    ended = await carried_out(store, settings, filled, "m", "evaluate", split="random", k=[5])
    assert (ended.state, ended.error_message) == ("succeeded", None)
    assert ended.response is not None
    assert (ended.response["split"], ended.response["users"] > 0) == ("random", True)
    assert 0 <= ended.response["metrics"]["ndcg@5"] <= 1
    assert await models.versions(filled.tenant, "m") == []


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "code", "reason", "said"),
    [
        ("item_knn", {"k": -1}, 3, "INVALID_HYPERPARAMETERS", "greater than or equal to 1"),
        ("nonsense", {}, 3, "UNKNOWN_ALGORITHM", "nonsense"),
        ("slow", {"act": "memory"}, 9, "MODEL_TOO_LARGE", "allocate 9 TiB"),
        ("slow", {"act": "fault"}, 13, "TRAINING_FAILED", "ZeroDivisionError: over nothing"),
        ("slow", {"act": "nan"}, 9, "TRAINING_FAILED", "not finite"),
        ("slow", {"act": "empty"}, 9, "TRAINING_FAILED", "knows no entity"),
    ],
)
async def test_failure_is_told_with_its_reason(
    store: OperationStore,
    settings: Settings,
    filled: Shop,
    models: ModelStore,
    artefacts: FileArtefactStore,
    algorithm: str,
    hyperparameters: dict[str, Any],
    code: int,
    reason: str,
    said: str,
) -> None:
    # Not measured before: what is wrong is found in the model that would serve.
    await models.create(
        filled.tenant,
        "m",
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        promotion="always",
    )
    ended = await carried_out(store, settings, filled, "m")
    assert (ended.state, ended.error_code, ended.error_reason) == ("failed", code, reason)
    assert said in (ended.error_message or "")
    assert await models.versions(filled.tenant, "m") == []
    assert artefacts.hashes() == []


async def test_too_little_data_is_told_with_what_there_is(
    store: OperationStore, settings: Settings, shop: Shop, models: ModelStore
) -> None:
    await shop.event("u1", "a")
    await models.create(shop.tenant, "m", algorithm="item_knn")
    ended = await carried_out(store, settings, shop, "m")
    assert (ended.state, ended.error_reason) == ("failed", "NOT_ENOUGH_DATA")
    assert "1 users" in (ended.error_message or "")


async def test_model_that_is_gone_fails_its_operation(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    ended = await carried_out(store, settings, shop, "m")
    assert (ended.state, ended.error_reason) == ("failed", "MODEL_NOT_FOUND")


async def test_operation_of_another_worker_is_left_alone(
    store: OperationStore, settings: Settings, shop: Shop
) -> None:
    started = await store.start(shop.tenant, "train", "m", {})
    await carry_out(settings, Order("", started.operation_id, "w", 60, os.getpid()))
    assert await store.get(shop.tenant, started.operation_id) == started


async def test_running_training_is_cancelled_and_shows_its_progress(
    store: OperationStore, settings: Settings, filled: Shop, models: ModelStore
) -> None:
    await models.create(filled.tenant, "m", algorithm="slow")
    task = asyncio.create_task(carried_out(store, settings, filled, "m"))
    async with asyncio.timeout(30):
        while True:
            found = await store.page(filled.tenant, None, 1)
            if found and found[0].phase == "idling":
                break
            await asyncio.sleep(0.05)
        assert 0.05 <= found[0].share < 0.95
        await store.request_cancel(filled.tenant, found[0].operation_id)
        ended = await task
    assert (ended.state, ended.error_code) == ("cancelled", 1)
    assert await models.versions(filled.tenant, "m") == []


async def test_fit_that_does_not_listen_is_cancelled_with_its_process(
    store: OperationStore,
    settings: Settings,
    filled: Shop,
    models: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exits: list[int] = []

    class Exited(BaseException):
        pass

    def leave(code: int) -> None:
        exits.append(code)
        raise Exited

    monkeypatch.setattr("jobs.trainer.os._exit", leave)
    monkeypatch.setattr("jobs.trainer._CANCEL_SECS", 0.2)
    await models.create(filled.tenant, "m", algorithm="slow", hyperparameters={"act": "deaf"})
    started = await store.start(filled.tenant, "train", "m", {})
    await store.claim("w", 60)
    task = asyncio.create_task(
        carry_out(settings, Order("", started.operation_id, "w", 60, os.getpid()))
    )
    await until(DEAF.is_set)
    await store.request_cancel(filled.tenant, started.operation_id)
    try:
        with pytest.raises(Exited):
            await task
    finally:
        WAKE.set()
    assert exits == [0]
    assert (await store.get(filled.tenant, started.operation_id)).state == "cancelled"


async def test_trainer_process_trains(
    store: OperationStore,
    settings: Settings,
    filled: Shop,
    models: ModelStore,
    artefacts: FileArtefactStore,
) -> None:
    """The whole way through a process, with its memory bounded."""
    await models.create(filled.tenant, "m", algorithm="item_knn")
    service = ServiceSettings(
        database=settings.database,
        data_dir=settings.data_dir,
        training_memory_mb=4096,
        log_format="json",
    )
    command = TrainerCommand(
        (sys.executable, "-m", "server.trainer_process"), write_settings(service), 1
    )
    started = await store.start(filled.tenant, "train", "m", {})
    task = asyncio.create_task(OperationRunner(store, settings, command).run())
    try:
        async with asyncio.timeout(110):
            ended = started
            while not ended.done:
                await asyncio.sleep(0.05)
                ended = await store.get(filled.tenant, started.operation_id)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (ended.state, ended.error_message) == ("succeeded", None)
    row = await models.version(filled.tenant, "m", "latest")
    assert artefacts.hashes() == [row.content_hash]
    assert np.isfinite(row.metadata["duration_secs"])


async def test_a_clusters_model_gives_users_their_segments(
    store: OperationStore,
    settings: Settings,
    filled: Shop,
    models: ModelStore,
    context: JobContext,
) -> None:
    await models.create(
        filled.tenant,
        "m",
        algorithm="clusters",
        hyperparameters={"n_clusters": 2, "n_components": 2},
    )
    ended = await carried_out(store, settings, filled, "m")
    assert (ended.state, ended.error_message) == ("succeeded", None)
    users = UserStore(context.service)
    async with context.service.connection(filled.tenant.tenant_id) as connection:
        rows = await connection.fetch("SELECT user_id, segment FROM user_segments")
    assert len(rows) == 12
    segment = {row["user_id"]: row["segment"] for row in rows}
    some = rows[0]["user_id"]
    alike = await users.same_segment(filled.tenant, some, 100)
    assert {user.user_id for user in alike} == {
        user for user in segment if segment[user] == segment[some] and user != some
    }
    told = await users.context(filled.tenant, some)
    assert told.segment == segment[some]


async def test_an_incremental_training_makes_only_the_touched_rows_anew(
    store: OperationStore, settings: Settings, filled: Shop, models: ModelStore, context: JobContext
) -> None:
    await models.create(filled.tenant, "m", algorithm="item_knn")
    for number in range(40):
        await filled.event(f"v{number % 8}", f"c{number}")
    await carried_out(store, settings, filled, "m")
    first = await models.version(filled.tenant, "m", "1")
    assert "report" not in first.metadata
    async with context.maintenance.connection(None) as connection:
        # As if all of it had come long before the first training.
        await connection.execute("UPDATE interactions SET received_at = now() - interval '1 hour'")
    await filled.event("u1", "fresh")
    ended = await carried_out(store, settings, filled, "m", incremental=True)
    assert (ended.state, ended.error_message) == ("succeeded", None)
    second = await models.version(filled.tenant, "m", "2")
    report = second.metadata["report"]
    # What u1 had, and the new one.
    assert report == {"refreshed_from": "1", "rows": 6, "of": 53}
    artefacts = context.artefacts
    old, new = (
        open_artefact(artefacts.path(row.content_hash), row.content_hash).model
        for row in (first, second)
    )
    assert len(new.entity_nos) == len(old.entity_nos) + 1
    fresh = set(new.entity_nos.tolist()) - set(old.entity_nos.tolist())
    history = History(
        np.flatnonzero(new.entity_nos == fresh.pop()).astype(np.int32),
        np.ones(1, np.float32),
        np.zeros(1, np.float32),
    )
    assert len(new.top(history, 10, history.items).items) == 5


async def test_an_incremental_training_is_a_whole_one_where_it_cannot_be_less(
    store: OperationStore, settings: Settings, filled: Shop, models: ModelStore
) -> None:
    await models.create(filled.tenant, "m", algorithm="popularity")
    ended = await carried_out(store, settings, filled, "m", incremental=True)
    assert (ended.state, ended.error_message) == ("succeeded", None)
    assert "report" not in (await models.version(filled.tenant, "m", "1")).metadata
