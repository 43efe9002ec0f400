"""`penchant serve --workers 2` as callers see it."""

import contextlib
import json
import os
import signal
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from penchant import Client, SyncClient
from penchant.v1 import recommendation_pb2

from storage.embedded.processes import alive
from tests.service.calls import FILMS, calling
from tests.service.grpcurl import GRPCURL, grpcurl
from tests.service.processes import RunningService, Services, eventually, free_port, penchant

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def service(module_services: Services) -> RunningService:
    """Two workers on the bundled servers, for tests that leave the processes alone."""
    return module_services.start(
        "--workers", "2", PENCHANT_METRICS_PORT=str(free_port()), PENCHANT_SHUTDOWN_GRACE_SECS="1"
    )


@pytest.fixture
async def films(service: RunningService) -> None:
    async with calling(service.target) as caller:
        await caller.add_films()


@pytest.mark.usefixtures("films")
async def test_client_recommends_after_ingest(service: RunningService) -> None:
    async with Client(service.target, tenant="default", timeout=30) as client:
        ack = await client.ingest("ann", "film", "f00", "like")
        answer = await client.recommend(
            user_id="ann", page_size=9, at_least_as_fresh=ack.freshness_token
        )
    assert {int(item.entity.entity_id[1:]) % 4 for item in answer} == {0}
    assert answer.items[0].reasons[0].because_of[0].entity_id == "f00"


@pytest.mark.usefixtures("films")
def test_sync_client_streams_and_pages(service: RunningService) -> None:
    with SyncClient(service.target, tenant="default", timeout=30) as client:
        client.ingest("ben", "film", "f01", "like")
        pages = client.recommend_pages(user_id="ben", page_size=7)
        found = [item.entity.entity_id for item in pages]
    assert sorted(found) == sorted(set(FILMS) - {"f01"})


def test_grpcurl_is_there_in_ci() -> None:
    assert GRPCURL is not None or not os.environ.get("CI")


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
def test_grpcurl_needs_no_proto_files(service: RunningService) -> None:
    listed = grpcurl(service, "list").split()
    assert {"grpc.health.v1.Health", "penchant.v1.InteractionService"} <= set(listed)
    described = grpcurl(service, "describe", "penchant.v1.RecommendationService")
    assert "rpc Recommend " in described
    assert "SERVING" in grpcurl(service, "grpc.health.v1.Health/Check")
    for title, genre in (("dune", "sf"), ("ubik", "sf"), ("emma", "romance")):
        entity = {
            "entity": {"entity_type": "novel", "entity_id": title},
            "attributes": {"genre": genre},
        }
        grpcurl(service, "penchant.v1.EntityService/UpsertEntity", entity=entity)
    liked = {
        "user_id": "eve",
        "entity": {"entity_type": "novel", "entity_id": "dune"},
        "interaction_type": "like",
    }
    ingest = "penchant.v1.InteractionService/IngestInteraction"
    ack = json.loads(grpcurl(service, ingest, interaction=liked))["ack"]
    answer = json.loads(
        grpcurl(
            service,
            "penchant.v1.RecommendationService/Recommend",
            user_id="eve",
            entity_type="novel",
            explain=True,
            at_least_as_fresh=ack["freshness_token"],
        )
    )
    assert [item["entity"]["entity_id"] for item in answer["items"]] == ["ubik", "emma"]
    reason = answer["items"][0]["reasons"][0]
    assert reason["because_of"] == [{"entity_type": "novel", "entity_id": "dune"}]
    assert answer["explanation"]["interaction_count"] == "1"


@pytest.mark.usefixtures("films")
@pytest.mark.parametrize("with_token", [True, False])
async def test_ingest_on_one_worker_shows_on_the_other(
    service: RunningService, with_token: bool
) -> None:
    user = f"hopper-{with_token}"
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(service.target)) for _ in range(16)]
        unseen = set(FILMS)
        for number, film in enumerate(FILMS[:24]):
            writer, reader = callers[number % 16], callers[(number * 5 + 1) % 16]
            before = await reader.scores(user)  # now in every cache there is
            assert {name for name, _ in before} == unseen
            ack = await writer.like(user, film)
            unseen.discard(film)
            token = {"at_least_as_fresh": ack.freshness_token} if with_token else {}
            after = await reader.scores(user, **token)
            assert {name for name, _ in after} == unseen
    ingesting = Counter(
        event["worker"]
        for event in service.events()
        if event["event"] == "call" and event["method"].endswith("/IngestInteraction")
    )
    assert sorted(ingesting) == sorted(service.workers())


async def test_bytes_that_are_no_protobuf_are_the_callers_fault(service: RunningService) -> None:
    method = "/penchant.v1.RecommendationService/Recommend"
    async with grpc.aio.insecure_channel(service.target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(method)(b"\xff\xff\xff", timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "penchant"


def _calls_counted(service: RunningService, method: str) -> float:
    url = f"http://127.0.0.1:{service.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as page:
        lines = page.read().decode().splitlines()
    wanted = f'code="OK",method="{method}"'
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("penchant_calls_total{") and wanted in line
    )


@pytest.mark.usefixtures("films")
async def test_metrics_add_up_the_calls_of_all_workers(service: RunningService) -> None:
    # A method that no other test here calls: workers may tell later what those before made.
    request = recommendation_pb2.TrendingRequest()
    for _ in range(12):
        async with calling(service.target) as caller:
            await caller.recommendation.Trending(request, timeout=30)
    eventually(lambda: _calls_counted(service, "Trending") == 12, "the counts")


def test_second_service_on_the_port_says_why_it_ends(
    service: RunningService, tmp_path: Path
) -> None:
    home = Path(f"/proc/{service.pid}/cwd").readlink()
    grace = {"PENCHANT_SHUTDOWN_GRACE_SECS": "0.2", "PENCHANT_METRICS_PORT": "0"}
    for directory in (home, tmp_path):
        second = penchant(directory, "serve", "--port", str(service.port), **grace)
        assert second.returncode == 1
        assert (
            f"penchant: cannot listen on {service.target}: Address already in use; "
            "see PENCHANT_HOST and PENCHANT_PORT\n"
        ) in second.stderr
        assert "Traceback" not in second.stderr
    metrics = {"PENCHANT_METRICS_PORT": str(service.metrics_port)}
    second = penchant(home, "serve", "--port", "0", **metrics)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (
        f"penchant: cannot listen on 127.0.0.1:{service.metrics_port}: Address already in use; "
        "metrics go to PENCHANT_METRICS_PORT, 0 for none"
    )
    health = penchant(home, "health", "--address", service.target)
    assert (health.returncode, health.stdout) == (0, "SERVING\n")


async def test_worker_that_is_killed_is_started_again(service: RunningService) -> None:
    victim = service.workers()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(
        lambda: len(service.workers()) == 2 and victim not in service.workers(), "a new worker"
    )
    new = next(pid for pid in service.workers() if pid != victim)

    async def answers() -> None:
        async with calling(service.target) as caller:
            await caller.until_serving("")

    for _ in range(20):
        await answers()
    assert alive(new)
    died = [event for event in service.events() if event["event"] == "child died"]
    assert [(event["pid"], event["code"]) for event in died] == [(victim, -9)]


def test_log_lines_are_json_without_passwords(services: Services, postgres_server: str) -> None:
    url = postgres_server.replace("postgres@", "postgres:geheim@", 1)
    service = services.start(DATABASE_URL=url, REDIS_URL="redis://:geheim@127.0.0.1:1/0")
    eventually(lambda: any(e["event"] == "component is away" for e in service.events()), "a word")
    assert service.stop() == 0
    assert {event["level"] for event in service.events()} >= {"info", "warning"}
    assert "geheim" not in service.log
