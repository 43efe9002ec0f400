"""The jobs process: run by `server.processes` as `python -m server.jobs_process`."""

import asyncio
import os
import sys

import uvloop

from jobs.main import run
from jobs.trainer_processes import TrainerCommand
from server.logs import configure_logs
from server.transfer import read_settings, write_settings


def main() -> None:
    """The entry point of the process; settings come on standard input."""
    settings = read_settings(sys.stdin.read())
    configure_logs(settings.log_format, settings.log_level, jobs=os.getpid())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        trainer = TrainerCommand(
            (sys.executable, "-m", "server.trainer_process"),
            write_settings(settings),
            settings.training_threads,
        )
        runner.run(run(settings, trainer=trainer))


if __name__ == "__main__":
    main()
