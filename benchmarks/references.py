"""The references: what a bare handler can do, in a process like a worker's.

One grpc.aio server on uvloop with a worker's options and no interceptor, which answers
/bench.Reference/Answer. Run as `python -m benchmarks.references` with a JSON plan on standard
input; prints its port. A call that fails ends the process: the load generator must notice.
"""

import asyncio
import json
import os
import subprocess
import sys
import traceback
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
import redis.asyncio as redis
import uvloop
from penchant.v1 import recommendation_pb2 as pb

from benchmarks.processes import SERVER_CORE, pinned
from storage.driver_types import OwnConnection

METHOD = "/bench.Reference/Answer"

_ITEMS = 20
_CONNECTIONS = 20
_OPTIONS = (
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)

Handle = Callable[[bytes], Awaitable[bytes]]


async def echo(plan: Mapping[str, Any]) -> Handle:
    """Returns the same ready bytes."""
    answer = b64decode(plan["answer"])

    async def handle(_: bytes) -> bytes:
        return answer

    return handle


async def redis_get(plan: Mapping[str, Any]) -> Handle:
    """Returns the bytes of one key in Redis, got anew for each call."""
    client = redis.Redis.from_url(plan["url"])
    key = "bench:reference"
    await client.set(key, b64decode(plan["answer"]))

    async def handle(_: bytes) -> bytes:
        answer = await client.get(key)
        assert isinstance(answer, bytes)
        return answer

    return handle


async def hnsw(plan: Mapping[str, Any]) -> Handle:
    """Searches a partition's HNSW index for 20 rows and builds the answer, attributes and all.

    The users' vectors are at hand in the process.
    """
    vectors = {user: b64decode(vector) for user, vector in plan["vectors"].items()}
    column = f"feature_vector::halfvec({int(plan['dimension'])})"
    query = (
        "SELECT entity_type, entity_id, attributes::text AS attributes,"
        f" {column} <=> $1 AS distance FROM entities_p{int(plan['placement'])}"
        f" ORDER BY {column} <=> $1 LIMIT {_ITEMS}"
    )

    async def prepare(connection: OwnConnection) -> None:
        await connection.set_type_codec(
            "halfvec", schema="public", encoder=bytes, decoder=bytes, format="binary"
        )

    async def keep(_: object) -> None:
        """No reset: a round trip less."""

    pool = await asyncpg.create_pool(
        plan["url"],
        min_size=_CONNECTIONS,
        max_size=_CONNECTIONS,
        init=prepare,
        reset=keep,
        server_settings={"jit": "off", "hnsw.ef_search": str(plan["ef_search"])},
    )

    async def handle(body: bytes) -> bytes:
        request = pb.RecommendRequest.FromString(body)
        answer = pb.RecommendResponse()
        for row in await pool.fetch(query, vectors[request.user_id]):
            item = answer.items.add(score=1 - row["distance"])
            item.entity.entity_type, item.entity.entity_id = row["entity_type"], row["entity_id"]
            item.attributes.update(json.loads(row["attributes"]))
        if len(answer.items) != _ITEMS:
            raise RuntimeError(f"{len(answer.items)} rows")
        return answer.SerializeToString()

    return handle


_KINDS = {"echo": echo, "redis_get": redis_get, "hnsw": hnsw}


async def serve(plan: Mapping[str, Any]) -> None:
    """Answers until the process is stopped."""
    handle = await _KINDS[plan["kind"]](plan)

    async def guarded(body: bytes, _: object) -> bytes:
        try:
            return await handle(body)
        except asyncio.CancelledError:
            raise
        except BaseException:  # noqa: BLE001 - told before everything ends
            traceback.print_exc()
            os._exit(1)

    server = grpc.aio.server(options=_OPTIONS)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(guarded)
    _, service, method = METHOD.split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference that runs: its address and its process."""

    target: str
    pid: int


@contextmanager
def reference(kind: str, answer: bytes = b"", **plan: object) -> Iterator[Reference]:
    """A reference in a process of its own, on the servers' core."""
    process = subprocess.Popen(
        [*pinned(SERVER_CORE), sys.executable, "-m", "benchmarks.references"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As workers have: Linux shares a busy processor out among sessions.
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        json.dump({**plan, "kind": kind, "answer": b64encode(answer).decode()}, process.stdin)
        process.stdin.close()
        yield Reference(f"127.0.0.1:{int(process.stdout.readline())}", process.pid)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.load(sys.stdin)))
