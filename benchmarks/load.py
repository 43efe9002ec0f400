"""A load generator in Python: raw bytes over grpc.aio, some callers, each call of a list in turn.

Slower than h2load, and so only for calls that are slow themselves, or differ in their metadata. Run
as `python -m benchmarks.load` with a JSON plan on standard input; prints JSON.
"""

import asyncio
import itertools
import json
import sys
import time
from base64 import b64decode
from contextlib import AsyncExitStack
from typing import Any

import grpc
import uvloop

_DEADLINE_SECS = 30.0
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


async def drive(plan: dict[str, Any]) -> dict[str, Any]:
    """Calls for the plan's seconds; what it took of each call in milliseconds."""
    calls = [
        (b64decode(body), tuple((name, value) for name, value in metadata))
        for body, metadata in plan["calls"]
    ]
    turn = itertools.count()
    took: list[float] = []
    failed = 0
    async with AsyncExitStack() as stack:
        stubs: list[Any] = []
        for _ in range(plan["connections"]):
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(plan["target"], options=[_OWN_CONNECTION])
            )
            await channel.channel_ready()
            stubs.append(channel.unary_unary(plan["method"]))
        began = time.perf_counter()
        end = began + plan["seconds"]

        async def caller() -> None:
            nonlocal failed
            while (begin := time.perf_counter()) < end:
                number = next(turn)
                body, metadata = calls[number % len(calls)]
                try:
                    await stubs[number % len(stubs)](
                        body, metadata=metadata, timeout=_DEADLINE_SECS
                    )
                except grpc.aio.AioRpcError:
                    failed += 1
                else:
                    took.append((time.perf_counter() - begin) * 1000)

        await asyncio.gather(*(caller() for _ in range(plan["callers"])))
        spent = time.perf_counter() - began
    return {"seconds": spent, "took_ms": took, "failed": failed}


def main() -> None:
    """Reads the plan, drives, prints what was measured."""
    plan = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(drive(plan))))


if __name__ == "__main__":
    main()
