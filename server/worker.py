"""One worker process: an event loop, a pool, a server on the shared port.

Run by `server.processes` as `python -m server.worker`, with the settings on standard input.
"""

import asyncio
import os
import signal
import sys

import structlog
import uvloop

from server.logs import configure_logs
from server.settings import Settings
from server.transfer import read_settings
from storage.exceptions import PenchantError

log = structlog.get_logger("penchant.worker")
_RETRY_SECS = 1.0


async def serve_worker(settings: Settings, ready: asyncio.Event | None = None) -> None:
    """Serves until SIGTERM or SIGINT; waits for a PostgreSQL that is away."""
    from server.deps import connect
    from server.wiring import build_server

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    while not stopping.is_set():
        try:
            async with connect(settings) as deps:
                server = build_server(settings, deps)
                await server.start()
                print("READY", flush=True)  # noqa: T201 - the parent reads it
                if ready is not None:
                    ready.set()
                await stopping.wait()
                log.info("draining")
                await server.stop()
        except PenchantError as error:
            log.warning("cannot start yet", reason=error.reason, message=error.message)
            await asyncio.sleep(_RETRY_SECS)
    log.info("stopped")


def main() -> None:
    """The entry point of the process."""
    settings = read_settings(sys.stdin.read())
    configure_logs(settings.log_format, settings.log_level, worker=os.getpid())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_worker(settings))


if __name__ == "__main__":
    main()
