"""A load generator that calls at given times, however long the answers take.

Run as `python -m benchmarks.paced` with a JSON plan on standard input. Prints a line when it is
ready, and in the end writes to the file `output` of the plan a JSON list of [when it was due,
milliseconds from then to the answer, its status] a call. Times are of CLOCK_MONOTONIC, in seconds.
"""

import asyncio
import json
import os
import random
import sys
import time
from base64 import b64decode
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import uvloop

READY = "READY"

_DEADLINE_SECS = 10.0
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


def due_times(pieces: list[tuple[float, float, float]], seed: int) -> list[float]:
    """When calls come by chance (Poisson), in pieces of (begin, end, calls a second)."""
    draw = random.Random(seed)
    times = []
    for begin, end, rate in pieces:
        at = begin
        while rate and (at := at + draw.expovariate(rate)) < end:
            times.append(at)
    return times


async def drive(plan: dict[str, Any]) -> list[tuple[float, float, str]]:
    """Makes the plan's calls, over some connections in turn."""
    bodies = [b64decode(body) for body in plan["bodies"]]
    metadata = (("x-tenant-id", plan["tenant"]),)
    made: list[tuple[float, float, str]] = []
    under_way: set[asyncio.Task[None]] = set()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(plan["target"], options=[_OWN_CONNECTION])
            )
            for _ in range(plan["connections"])
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        calls: list[Any] = [channel.unary_unary(plan["method"]) for channel in channels]

        async def call(number: int, due: float) -> None:
            status = "OK"
            try:
                await calls[number % len(calls)](
                    bodies[number % len(bodies)], metadata=metadata, timeout=_DEADLINE_SECS
                )
            except grpc.aio.AioRpcError as error:
                status = error.code().name
            made.append((due, (time.monotonic() - due) * 1000, status))

        print(READY, flush=True)
        for number, due in enumerate(due_times(plan["pieces"], plan["seed"])):
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            task = asyncio.create_task(call(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    return made


def main() -> None:
    """Reads the plan, drives, prints what was measured."""
    plan = json.load(sys.stdin)
    os.nice(plan["nice"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = runner.run(drive(plan))
    Path(plan["output"]).write_text(json.dumps(made), encoding="utf-8")


if __name__ == "__main__":
    main()
