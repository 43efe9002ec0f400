"""The parent process: backends, workers and jobs, started, watched and stopped. It loads no gRPC."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from server.backends import backends, bootstrap
from server.settings import Settings
from server.transfer import write_settings

log = structlog.get_logger("penchant.parent")

_PR_SET_PDEATHSIG = 1
_STEADY_SECS = 30.0
_KILL_AFTER_SECS = 5.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process that is started again when it dies.

    Args:
        name: for the log.
        module: run as `python -m MODULE`, with the settings on its standard input.
        on_death: told the process id of each process that has died.
    """

    def __init__(
        self,
        name: str,
        module: str,
        settings: str,
        environment: Mapping[str, str],
        on_death: Callable[[int], None],
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self._module = module
        self._settings = settings
        self._environment = dict(environment)
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._task = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._stopping:
            started = loop.time()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to pass on
                preexec_fn=_die_with_parent,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._process.stdin.write(self._settings.encode())
                await self._process.stdin.drain()
            self._process.stdin.close()
            async for line in self._process.stdout:
                if line.strip() == b"READY":
                    self.ready.set()
            code = await self._process.wait()
            self._on_death(self._process.pid)
            if self._stopping:
                return
            self.ready.clear()
            deaths = 1 if loop.time() - started > _STEADY_SECS else deaths + 1
            pause = min(0.2 * 2 ** (deaths - 1), 10.0)
            log.error(
                "child died", child=self.name, pid=self._process.pid, code=code, again_in=pause
            )
            await asyncio.sleep(pause)

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended some seconds after the grace."""
        self._stopping = True
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._task], timeout=grace + _KILL_AFTER_SECS)
        if not done:
            log.error("child does not stop", child=self.name)
            self.signal(signal.SIGKILL)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if there is one."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


@asynccontextmanager
async def reserved_port(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose port is a number: a bound socket that never listens keeps a free one.

    Raises:
        OSError: the port is taken by another program.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((settings.host.strip("[]"), settings.port))
        yield settings.model_copy(update={"port": holder.getsockname()[1]})


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[Settings]:
    """The whole service, from the first worker's readiness to the end of the block.

    Yields:
        The settings with the port, URLs and metrics port that are really in use.

    Raises:
        PenchantError: a backend does not start, or the schema cannot be brought up to date.
        OSError: the port is taken.
    """
    async with contextlib.AsyncExitStack() as stack:
        settings = await stack.enter_async_context(reserved_port(settings))
        settings = await stack.enter_async_context(backends(settings))
        await bootstrap(settings)
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-metrics-"))
        )
        # Imported here: prometheus_client looks at the variable when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        from server.metrics import forget_process, serve_metrics

        if settings.metrics_port:
            settings = settings.model_copy(
                update={"metrics_port": serve_metrics(settings.metrics_port, directory)}
            )
        plain = write_settings(settings)
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}

        def start(name: str, module: str) -> Child:
            return Child(
                name, module, plain, environment, lambda pid: forget_process(pid, directory)
            )

        workers = [start(f"worker {n}", "server.worker") for n in range(settings.workers)]
        jobs = [start("jobs", "server.jobs_process")] if settings.jobs_enabled else []
        try:
            await asyncio.gather(*(worker.ready.wait() for worker in workers))
            yield settings
        finally:
            grace = settings.shutdown_grace_secs
            await asyncio.gather(*(worker.stop(grace) for worker in workers))
            await asyncio.gather(*(job.stop(grace) for job in jobs))


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; a second signal stops at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)  # the children and the bundled servers end with this process
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with running_service(settings) as actual:
        metrics = f"; metrics on port {actual.metrics_port}" if actual.metrics_port else ""
        plural = "worker" if actual.workers == 1 else "workers"
        log.info(
            f"Penchant serves on {actual.host}:{actual.port} ({actual.workers} {plural}){metrics}",
            port=actual.port,
        )
        await stopping.wait()
        log.info("stopping")
