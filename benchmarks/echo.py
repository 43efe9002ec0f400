"""The reference: a grpc.aio server on uvloop that returns ready bytes, with no interceptor.

Run as `python -m benchmarks.echo SIZE`; prints its port.
"""

import asyncio
import sys

import grpc
import uvloop

METHOD = "/bench.Echo/Answer"


async def serve(size: int) -> None:
    """Answers every call with `size` bytes until the process is stopped."""
    answer = bytes(size)

    async def handle(_: bytes, __: object) -> bytes:
        return answer

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(handle)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Answer": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
