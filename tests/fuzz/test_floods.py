"""Floods of frames: the worker stays, serves others meanwhile, and gives its memory back."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import grpc
import pytest
from penchant.v1 import entity_pb2, entity_pb2_grpc

from tests.fuzz.floods import FLOODS, OK, Connection, bomb, flood
from tests.fuzz.processes import OWN_CONNECTION, assert_alive, faults_in, resident
from tests.service.processes import RunningService

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.slow, pytest.mark.timeout(1800)]

_MIB = 1 << 20
_CONNECTIONS = 4
_GROWTH = 64 * _MIB
_PATIENCE_SECS = 60


class Peak:
    """The most memory that a process held."""

    def __init__(self, pid: int) -> None:
        self.bytes = resident(pid)
        self._pid = pid
        self._ended = Event()
        self._thread = Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, resident(self._pid))

    @contextmanager
    def watched(self) -> Iterator["Peak"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join()


async def list_entities(target: str) -> float:
    """Seconds that another caller's request takes."""
    began = time.monotonic()
    async with grpc.aio.insecure_channel(target, options=OWN_CONNECTION) as channel:
        stub = entity_pb2_grpc.EntityServiceStub(channel)
        await stub.ListEntities(entity_pb2.ListEntitiesRequest(), timeout=_PATIENCE_SECS)
    return time.monotonic() - began


async def beside(work: Callable[[], Any], target: str) -> tuple[Any, float]:
    """What the work gives, and the longest that another caller waited meanwhile."""
    running = asyncio.create_task(asyncio.to_thread(work))
    longest = 0.0
    while not running.done():
        longest = max(longest, await list_entities(target))
        await asyncio.sleep(0.1)
    return await running, longest


async def test_floods_do_not_stop_others(
    served: RunningService, short: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """FLOOD says how large they are: 1000 is twenty thousand reset calls a connection."""
    size = int(os.environ.get("FLOOD") or (100 if short else 1000))
    (worker,) = workers = served.workers()
    await list_entities(served.target)
    began = resident(worker)
    rows = ["| flood | seconds | longest call beside it, ms | most memory, MiB | after, MiB |"]
    for what in FLOODS:
        start = time.monotonic()
        with Peak(worker).watched() as peak:

            async def one(what: Any = what) -> float:
                return (await beside(lambda: flood(served.port, what, size), served.target))[1]

            waited = await asyncio.gather(*(one() for _ in range(_CONNECTIONS)))
        took = time.monotonic() - start
        await assert_alive(served, workers)
        rows.append(
            f"| {what.__name__} | {took:.1f} | {max(waited) * 1000:.0f} "
            f"| {peak.bytes // _MIB} | {resident(worker) // _MIB} |"
        )
    with capsys.disabled():
        print("\n" + "\n".join(rows))  # noqa: T201 - the table of the floods
    assert faults_in(served) == []
    assert resident(worker) - began < _GROWTH


@pytest.mark.parametrize("mebibytes", [64, 4095], ids=["64 MiB", "4 GiB"])
async def test_compressed_bomb_is_refused_before_it_unpacks(
    served: RunningService, mebibytes: int
) -> None:
    (worker,) = workers = served.workers()
    await list_entities(served.target)
    began = resident(worker)

    def throw() -> bytes:
        with Connection(served.port) as connection:
            return bomb(connection, mebibytes)

    with Peak(worker).watched() as peak:
        heard, _ = await beside(throw, served.target)
    # gRPC may keep its RESOURCE_EXHAUSTED back until the connection ends; it never unpacks on.
    assert OK not in heard
    assert peak.bytes - began < _GROWTH
    await assert_alive(served, workers)


async def test_large_requests_that_are_refused_do_not_add_up(served: RunningService) -> None:
    """Four megabytes of empty messages are half a gigabyte once they are parsed."""
    (worker,) = workers = served.workers()
    path = "/penchant.v1.RecommendationService/BatchRecommend"
    content = b"\x0a\0" * (2 * _MIB)
    async with grpc.aio.insecure_channel(served.target, options=OWN_CONNECTION) as channel:
        call: Any = channel.unary_unary(path)

        async def refused() -> grpc.StatusCode:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(content, timeout=_PATIENCE_SECS)
            return caught.value.code()

        with Peak(worker).watched() as peak:
            codes = await asyncio.gather(*(refused() for _ in range(8)))
    assert set(codes) == {grpc.StatusCode.INVALID_ARGUMENT}
    assert peak.bytes < 1536 * _MIB
    await assert_alive(served, workers)
