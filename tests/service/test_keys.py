"""API keys and `penchant serve`: the address, two workers, and the commands."""

import asyncio
import re
import socket
import time
from pathlib import Path

import grpc
import pytest
from grpc_status import rpc_status
from penchant.v1 import entity_pb2, entity_pb2_grpc

from tests.service.calls import PATIENCE
from tests.service.processes import RunningService, Services, free_port, penchant
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

_KEY = re.compile(r"pk_[a-z2-7]{12}_[A-Za-z0-9]{43}\n")
_CHANNELS = 8


def keys(home: Path, *words: str, **variables: str) -> str:
    """What `penchant keys` prints to standard output."""
    done = penchant(home, "keys", *words, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def new_key(home: Path, *words: str, **variables: str) -> str:
    text = keys(home, "create", *words, **variables)
    assert _KEY.fullmatch(text)
    return text.strip()


def id_of(key: str) -> str:
    return key.split("_")[1]


def reaches(host: str, port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(5)
        return caller.connect_ex((host, port)) == 0


def warnings_of(service: RunningService) -> list[dict[str, object]]:
    return [event for event in service.events() if event.get("asked_for")]


def test_service_without_keys_listens_on_this_machine_only(services: Services) -> None:
    """127.0.0.2 stands for the address of a network: 0.0.0.0 listens there, 127.0.0.1 does not."""
    metrics = free_port()
    variables = {"PENCHANT_HOST": "0.0.0.0", "PENCHANT_METRICS_PORT": str(metrics)}
    service = services.start("--workers", "2", **variables)
    (warning,) = warnings_of(service)
    assert (warning["level"], warning["host"], warning["asked_for"]) == (
        "warning",
        "127.0.0.1",
        "0.0.0.0",
    )
    assert "penchant keys create" in str(warning["event"])
    assert [reaches("127.0.0.1", port) for port in (service.port, metrics)] == [True, True]
    assert [reaches("127.0.0.2", port) for port in (service.port, metrics)] == [False, False]
    new_key(services.home, "--operator")
    assert service.stop() == 0
    service = services.start(port=service.port, **variables)
    assert warnings_of(service) == []
    assert reaches("127.0.0.2", service.port)


class Caller:
    """A connection of its own, which stays with the worker that took it."""

    def __init__(self, service: RunningService, key: str) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.aio.insecure_channel(service.target, options=options)
        self._stub = entity_pb2_grpc.EntityServiceStub(self.channel)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self.accepted_at = 0.0

    async def list(self) -> str:
        """Why a call is refused; empty when it is not."""
        begin = time.monotonic()
        try:
            await self._stub.ListEntities(
                entity_pb2.ListEntitiesRequest(), metadata=self._metadata, timeout=PATIENCE
            )
        except grpc.aio.AioRpcError as error:
            status = rpc_status.from_call(error)
            assert status is not None
            return str(status.message)
        self.accepted_at = begin
        return ""

    async def until_refused(self) -> None:
        await until(self.list)


async def test_revocation_works_on_every_worker(services: Services) -> None:
    service = services.start("--workers", "2")
    home = services.home
    key = new_key(home, "--tenant", "default", "--scope", "recommend:read")
    callers = [Caller(service, key) for _ in range(_CHANNELS)]
    assert [await caller.list() for caller in callers] == [""] * _CHANNELS

    async def revoke() -> float:
        await asyncio.to_thread(keys, home, "revoke", id_of(key))
        return time.monotonic()

    *_, revoked_at = await asyncio.gather(*(c.until_refused() for c in callers), revoke())
    # A second is promised; this machine does other things too.
    assert max(caller.accepted_at for caller in callers) < revoked_at + 10
    for caller in callers:
        await caller.channel.close()


def test_keys_are_made_listed_rotated_and_revoked(services: Services) -> None:
    home = services.home
    services.start()
    operator = new_key(home, "--operator", "--name", "[on] call")
    shop = new_key(
        home, "--tenant", "default", "--scope", "recommend:read", "--expires-in-days", "1"
    )
    following = keys(home, "rotate", id_of(shop), "--overlap-hours", "1").strip()
    said = keys(home, "revoke", id_of(shop))
    assert said == f"revoked key {id_of(shop)} of tenant default\n"
    listed = keys(home, "list")
    assert "[on] call" in listed
    assert "revoked" in listed
    made = {id_of(key) for key in (operator, shop, following)}
    assert set(re.findall(r"│ ([a-z2-7]{12}) ", listed)) == made
    assert id_of(operator) not in keys(home, "list", "--tenant", "default")
    for wrong, code, sentence in (
        (("create",), 2, "say either --tenant or --operator"),
        (("rotate", id_of(shop)), 1, f"The API key '{id_of(shop)}' is revoked or has expired"),
        (("revoke", operator), 1, "There is no API key of that id."),
    ):
        done = penchant(home, "keys", *wrong)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(f"penchant: {sentence}")
