"""A section of a document, worked through as a reader would: its commands run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs import reading
from tests.service.grpcurl import GRPCURL
from tests.service.processes import RunningService, Services, clean_environment, free_port

SECURITY = reading.ROOT / "docs" / "security.md"
_PORT = "50051"


class Walkthrough:
    """Runs a section's commands in one directory, with what they export.

    Attributes:
        outputs: every command that was run to its end, and what it printed.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._exports: dict[str, str] = {}
        self.port = str(free_port())
        self.service: RunningService | None = None
        self.outputs: list[tuple[str, str]] = []

    def follow(self, heading: str) -> None:
        """Runs a section: services are started and stay, everything else must succeed."""
        for line in reading.shell_lines(SECURITY, heading):
            if line.startswith("export "):
                self._exports |= dict(word.split("=", 1) for word in line.split()[1:])
            elif line.endswith("penchant serve"):
                self.service = self._services.start(port=int(self.port), **self._exports)
            else:
                done = self.run(line)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                self.outputs.append((line, done.stdout))

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Runs one command."""
        assert GRPCURL is not None
        programs = Path(sys.executable).parent
        given = line.replace(f":{_PORT}", f":{self.port}")
        given = re.sub(r"(^|\s)\.venv/bin/", rf"\1{programs}/", given)
        environment = clean_environment(self._services.home)
        environment["PATH"] = os.pathsep.join((str(Path(GRPCURL).parent), environment["PATH"]))
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", given],
            cwd=self._services.home, env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def output_of(self, text: str) -> str:
        """What the last command printed that has the text in it."""
        return next(output for line, output in reversed(self.outputs) if text in line)
