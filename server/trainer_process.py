"""The process of one training: run by the jobs process as `python -m server.trainer_process`.

It loads its libraries while it waits for the order on its standard input, one line of JSON, and
ends without one when the input does.
"""

import asyncio
import os
import resource
import signal
import sys
import threading

import structlog
import uvloop

from jobs.trainer_processes import Order
from server.logs import configure_logs
from server.settings import Settings
from server.transfer import read_settings
from storage import death_signals
from storage.exceptions import PenchantError

_NICENESS = 10
_MIB = 1 << 20

_log = structlog.get_logger(__name__)


def main() -> None:
    """The entry point of the process."""
    death_signals.ask_for(signal.SIGKILL)  # without the jobs process nobody would hold the lease
    os.nice(_NICENESS)
    ordered = threading.Event()
    threading.Thread(target=_load, args=[ordered], daemon=True).start()
    line = sys.stdin.readline()
    ordered.set()
    if not line:
        return
    order = Order.of(line)
    if os.getppid() != order.parent:
        return  # it died before the kernel was asked to tell
    settings = read_settings(order.settings)
    configure_logs(settings.log_format, settings.log_level, trainer=os.getpid())
    if settings.training_memory_mb:
        limit = settings.training_memory_mb * _MIB
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_carry_out(settings, order))
        except PenchantError as error:
            _log.error("trainer gives up", reason=error.reason, message=error.message)
            sys.exit(1)


def _load(ordered: threading.Event) -> None:
    """Imports what every training needs, and every algorithm if there is time for it."""
    import engine.training.checks  # noqa: PLC0415
    import jobs.trainer  # noqa: F401, PLC0415

    if not ordered.is_set():
        engine.training.checks.described()


async def _carry_out(settings: Settings, order: Order) -> None:
    from jobs.trainer import carry_out  # noqa: PLC0415 - loaded by the thread meanwhile

    await carry_out(settings, order)


if __name__ == "__main__":
    main()
