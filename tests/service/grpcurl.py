"""grpcurl, as a user calls it: by reflection alone."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.service.processes import RunningService

_PLACES = (os.environ["PATH"], Path(__file__).parents[2] / ".tools/bin", Path.home() / "go/bin")
GRPCURL = shutil.which("grpcurl", path=os.pathsep.join(map(str, _PLACES)))


def grpcurl(service: RunningService, *words: str, **request: object) -> str:
    """What a call prints; it must succeed."""
    assert GRPCURL is not None
    data = ["-d", json.dumps(request)] if request else []
    done = subprocess.run(
        [GRPCURL, "-plaintext", *data, service.target, *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
