"""Starts a PostgreSQL and a Redis again for tests that have gRPC's threads: those must not fork.

Run as `python -m tests.faults.keeper DIRECTORY`. Each line on its standard input has it start what
does not run, and answers with a line of two URLs; at the end of the input it stops them.
"""

import asyncio
import json
import sys
from pathlib import Path

from storage.embedded.processes import read_pid
from tests.faults.backends import Backends

_ROOT = Path(__file__).parents[2]
_START_SECS = 150.0


class KeptBackends:
    """A durable PostgreSQL and a Redis, started by a process of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self.database_url = self.redis_url = ""

    async def start(self) -> None:
        """Starts what does not run."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", __name__, str(self._directory)),
                cwd=_ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"start\n")
        answer = await asyncio.wait_for(self._process.stdout.readline(), _START_SECS)
        self.database_url, self.redis_url = json.loads(answer)

    async def stop(self) -> None:
        """Stops both."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()

    @property
    def redis(self) -> int:
        return self._pid("redis.pid")

    @property
    def postgres(self) -> int:
        return self._pid("postgres/postmaster.pid")

    def _pid(self, name: str) -> int:
        pid = read_pid(self._directory / name)
        assert pid is not None
        return pid


async def keep(directory: Path) -> None:
    """Does what it is told until nobody is left to tell it."""
    backends = Backends(directory, durable=True)
    while await asyncio.to_thread(sys.stdin.readline):
        await backends.start_again()
        sys.stdout.write(json.dumps([backends.database_url, backends.redis_url]) + "\n")
        sys.stdout.flush()
    await backends.stop()


if __name__ == "__main__":
    asyncio.run(keep(Path(sys.argv[1])))
