"""A load generator: raw bytes over grpc.aio, a fixed number of callers, in a process of its own.

Run as `python -m benchmarks.load` with a JSON plan on standard input; prints JSON.
"""

import asyncio
import json
import sys
import time
from base64 import b64decode
from dataclasses import asdict, dataclass

import grpc
import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What a run measured: calls a second, and latencies in milliseconds."""

    calls: int
    errors: int
    per_second: float
    p50_ms: float
    p99_ms: float


async def drive(
    target: str, method: str, bodies: list[bytes], tenant: str, callers: int, seconds: float
) -> Load:
    """Calls as fast as the callers can, the bodies in turn."""
    took: list[float] = []
    errors = 0
    turn = 0
    async with grpc.aio.insecure_channel(target) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        metadata = (("x-tenant-id", tenant),)
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal errors, turn
            while (begin := time.perf_counter()) < end:
                turn += 1
                try:
                    await call(bodies[turn % len(bodies)], metadata=metadata, timeout=10)
                except grpc.aio.AioRpcError:
                    errors += 1
                took.append(time.perf_counter() - begin)

        begin = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        spent = time.perf_counter() - begin
    took.sort()
    return Load(
        calls=len(took),
        errors=errors,
        per_second=len(took) / spent,
        p50_ms=took[len(took) // 2] * 1000,
        p99_ms=took[int(len(took) * 0.99)] * 1000,
    )


def main() -> None:
    """Reads the plan, drives, prints what was measured."""
    plan = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(
            drive(
                plan["target"],
                plan["method"],
                [b64decode(body) for body in plan["bodies"]],
                plan["tenant"],
                plan["callers"],
                plan["seconds"],
            )
        )
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
