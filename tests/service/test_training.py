"""A training by the processes of a service: what serves, what survives a crash and damage."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from penchant.v1 import interaction_pb2, model_pb2, model_pb2_grpc

from storage.embedded.processes import command_line
from tests.service.calls import PATIENCE, Caller, interaction
from tests.service.grpcurl import GRPCURL, grpcurl
from tests.service.processes import RunningService, Services, eventually, family
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

GROUPS = 6
FILMS_A_GROUP = 12


def film(group: int, number: int) -> str:
    return f"g{group}-{number:02}"


def planted() -> Iterator[interaction_pb2.Interaction]:
    """240 users, each of whom likes seven of a group's twelve films, and one of another group."""
    for user in range(240):
        group = user % GROUPS
        for step in range(7):
            yield interaction(
                f"u{user:03}", film(group, (user // GROUPS + step * 5) % FILMS_A_GROUP)
            )
        yield interaction(f"u{user:03}", film((group + 1) % GROUPS, user % FILMS_A_GROUP))


class Trainer:
    """Calls that train and promote."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.caller = Caller(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)

    async def ingest(self) -> None:
        rows = list(planted())

        async def batches() -> Any:
            for start in range(0, len(rows), 500):
                yield interaction_pb2.IngestInteractionsRequest(
                    sequence=start, interactions=rows[start : start + 500]
                )

        async for ack in self.caller.interaction.IngestInteractions(batches(), timeout=PATIENCE):
            assert not ack.errors

    async def create(self, name: str, algorithm: str, **settings: Any) -> None:
        model = model_pb2.Model(name=name, algorithm=algorithm)
        model.hyperparameters.update(settings)
        await self.models.CreateModel(model_pb2.CreateModelRequest(model=model), timeout=PATIENCE)

    async def start(self, name: str) -> operations_pb2.Operation:
        return await self.models.TrainModel(
            model_pb2.TrainModelRequest(name=name), timeout=PATIENCE
        )

    async def watch(self, operation: str) -> list[operations_pb2.Operation]:
        request = model_pb2.WatchTrainingRequest(operation=operation)
        return [o async for o in self.models.WatchTraining(request, timeout=120)]

    async def train(self, name: str) -> model_pb2.TrainModelResponse:
        """A training to its end, which must be a good one."""
        seen = await self.watch((await self.start(name)).name)
        assert not seen[-1].HasField("error"), seen[-1].error
        response = model_pb2.TrainModelResponse()
        assert seen[-1].done
        assert seen[-1].response.Unpack(response)
        return response

    async def get(self, name: str) -> model_pb2.GetModelResponse:
        return await self.models.GetModel(model_pb2.GetModelRequest(name=name), timeout=PATIENCE)

    async def versions(self, name: str) -> list[model_pb2.ModelVersion]:
        request = model_pb2.ListVersionsRequest(name=name)
        return list((await self.models.ListVersions(request, timeout=PATIENCE)).versions)


def _start(services: Services) -> RunningService:
    return services.start(
        "--workers", "2", PENCHANT_DATA_DIR=str(services.home / "data"), PENCHANT_LOG_FORMAT="json"
    )


def _trainers(service: RunningService) -> list[int]:
    return [p for p in family(service.pid) if "server.trainer_process" in command_line(p)]


def _trainer_of(service: RunningService) -> int:
    """The process id of a training that is under way."""
    return int(eventually(lambda: _trainers(service), "a trainer")[0])


async def test_a_trained_model_answers_a_new_user_in_the_very_next_call(services: Services) -> None:
    service = _start(services)
    async with grpc.aio.insecure_channel(service.target) as channel:
        trainer = Trainer(channel)
        await trainer.ingest()
        await trainer.create("main", "item_knn")
        trained = await trainer.train("main")
        assert trained.promoted
        statistics = trained.version.statistics
        assert (statistics.n_users, statistics.n_items) == (240, GROUPS * FILMS_A_GROUP)
        assert trained.version.peak_memory_bytes > 0
        liked = [film(2, number) for number in (0, 3, 7)]
        for name in liked:
            await trainer.caller.like("newcomer", name)
        answer = await trainer.caller.recommend("newcomer", page_size=5)
        assert answer.model_versions == ["main@1"]
        assert {item.entity.entity_id[:2] for item in answer.items} == {"g2"}
        reasons = [reason for item in answer.items for reason in item.reasons]
        assert {reason.source for reason in reasons} == {"model"}
        because = {entity.entity_id for reason in reasons for entity in reason.because_of}
        assert because <= set(liked)
        assert because


async def test_a_killed_trainer_and_a_damaged_artefact_leave_the_older_version_serving(
    services: Services,
) -> None:
    service = _start(services)
    async with grpc.aio.insecure_channel(service.target) as channel:
        trainer = Trainer(channel)
        await trainer.ingest()
        await trainer.create("main", "item_knn")
        await trainer.train("main")
        await trainer.create("slow", "als", factors=1024, iterations=200)
        # The last one's process ends a moment after its operation.
        await until(lambda: not _trainers(service))
        operation = (await trainer.start("slow")).name
        os.kill(_trainer_of(service), signal.SIGKILL)
        ended = (await trainer.watch(operation))[-1]
        assert ended.done
        assert "SIGKILL" in ended.error.message
        assert not await trainer.versions("slow")
        await trainer.caller.like("u000", film(3, 3))
        second = await trainer.train("main")
        assert second.promoted
        assert second.version.version == "2"
    assert service.stop() == 0
    artefact = next((services.home / "data" / "models").rglob(f"*{second.version.content_hash}*"))
    _damage(artefact)
    service = _start(services)
    async with grpc.aio.insecure_channel(service.target) as channel:
        trainer = Trainer(channel)

        async def answered_by_the_first() -> bool:
            answer = await trainer.caller.recommend("u000", page_size=5)
            return list(answer.model_versions) == ["main@1"]

        await until(answered_by_the_first)
        newest = (await trainer.versions("main"))[0]
        assert newest.version == "2"
        assert newest.state == model_pb2.VERSION_STATE_CORRUPT
        assert "checksum" in newest.problem
        assert (await trainer.get("main")).model.serving_version == "1"
    told = [line for line in service.events() if "cannot be served" in line["event"]]
    assert told
    assert "checksum" in told[0]["problem"]


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
async def test_grpcurl_takes_a_model_through_its_life(services: Services) -> None:
    service = _start(services)
    async with grpc.aio.insecure_channel(service.target) as channel:
        await Trainer(channel).ingest()

    def call(method: str, **request: object) -> dict[str, Any]:
        text = grpcurl(service, f"penchant.v1.ModelService/{method}", **request)
        answers = text.replace("}\n{", "}\n\x00{").split("\x00")  # a stream: the last one
        return json.loads(answers[-1])

    assert "google.longrunning.Operations" in grpcurl(service, "list").split()
    names = {algorithm["name"] for algorithm in call("ListAlgorithms")["algorithms"]}
    assert {"auto", "spectral", "ease", "als", "svd", "hybrid"} <= names
    for name, algorithm in (("main", "item_knn"), ("other", "popularity")):
        call("CreateModel", model={"name": name, "algorithm": algorithm})
        operation = call("TrainModel", name=name)["name"]
        ended = call("WatchTraining", operation=operation)
        assert ended["done"], ended
        assert ended["response"]["version"]["version"] == "1"
        got = json.loads(
            grpcurl(service, "google.longrunning.Operations/GetOperation", name=operation)
        )
        assert got["metadata"]["share"] == 1
    compared = call("CompareModels")
    assert [v["version"]["model"] for v in compared["versions"]] == ["main", "other"]
    promoted = call("PromoteVersion", name="other", version="1", force=True)
    assert promoted["previous"] == "main@1"
    assert call("GetModel", name="other")["model"]["serving_version"] == "1"
    assert call("RollbackModel", name="other")["previous"] == "other@1"
    assert call("GetModel", name="main")["model"]["serving_version"] == "1"


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


async def test_two_trainings_at_once_are_one_operation_and_a_cancelled_one_ends(
    services: Services,
) -> None:
    service = _start(services)
    async with grpc.aio.insecure_channel(service.target) as channel:
        trainer = Trainer(channel)
        await trainer.ingest()
        await trainer.create("slow", "als", factors=1024, iterations=200)
        first, second = await asyncio.gather(trainer.start("slow"), trainer.start("slow"))
        assert first.name == second.name
        _trainer_of(service)
        await trainer.models.CancelTraining(
            model_pb2.CancelTrainingRequest(operation=first.name), timeout=PATIENCE
        )
        ended = (await trainer.watch(first.name))[-1]
        assert ended.done
        assert ended.error.code == grpc.StatusCode.CANCELLED.value[0]
