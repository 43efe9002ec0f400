"""A child process that lives as long as the parent wants it to, and no longer than the parent."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping

import structlog

from storage.death_signals import death_note

_STEADY_SECS = 30.0
_FIRST_PAUSE_SECS = 0.2
_LONGEST_PAUSE_SECS = 10.0
_KILL_AFTER_SECS = 5.0

_log = structlog.get_logger(__name__)


class Child:
    """A process that is started now, and again whenever it dies.

    Args:
        name: for the log.
        module: run as `python -m MODULE`.
        settings: written to its standard input.
        environment: all of its environment.
        on_death: told the process id of each process that has died.

    Attributes:
        ready: set while a process runs that has written READY to its standard output.
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

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended some seconds after the grace."""
        self._stopping = True
        if self.pid is None:
            self._task.cancel()
        self._send(signal.SIGTERM)
        done, _ = await asyncio.wait([self._task], timeout=grace + _KILL_AFTER_SECS)
        if not done:
            _log.error("child does not stop", child=self.name)
            self._send(signal.SIGKILL)
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        clock = asyncio.get_running_loop().time
        deaths = 0
        while not self._stopping:
            begin = clock()
            process = self._process = await self._start()
            try:
                await self._talk(process)
                code = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                raise
            finally:
                self.ready.clear()
                self._on_death(process.pid)
            if self._stopping:
                return
            if code == 0:  # somebody asked it to stop, as in a rolling restart
                _log.info("child ended", child=self.name, pid=process.pid)
                continue
            deaths = 1 if clock() - begin > _STEADY_SECS else deaths + 1
            pause = min(_FIRST_PAUSE_SECS * 2 ** (deaths - 1), _LONGEST_PAUSE_SECS)
            _log.error("child died", child=self.name, pid=process.pid, code=code, again_in=pause)
            await asyncio.sleep(pause)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's to pass on
            preexec_fn=death_note(signal.SIGTERM),
        )

    async def _talk(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(self._settings.encode())
            await process.stdin.drain()
        process.stdin.close()
        async for line in process.stdout:
            if line.strip() == b"READY":
                self.ready.set()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
