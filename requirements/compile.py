"""Pins the dependencies of pyproject.toml by hash: runtime.txt, dev.txt, build.txt.

Needs `uv` (installed for the run into the virtual environment's cache by pip). No index addresses
are written: the files work with any index that serves the same archives.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
OWN = "penchant"  # the client package of this repository is no dependency from an index


def _compile(wanted: list[str], target: Path, *constraints: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join(wanted))
        source.flush()
        options = [part for file in constraints for part in ("--constraint", str(file))]
        subprocess.run(
            [
                sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes",
                "--python-version", "3.11", "--no-header", "--no-annotate",
                "--no-emit-index-url", "--no-emit-find-links", *options, source.name,
                "--output-file", str(target),
            ],
            check=True,
        )  # fmt: skip


def main() -> None:
    """Writes the three files."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = [d for d in project["project"]["dependencies"] if d != OWN]
    dev = project["project"]["optional-dependencies"]["dev"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    _compile(runtime, HERE / "runtime.txt")
    _compile(runtime + dev, HERE / "dev.txt", HERE / "runtime.txt")
    _compile(["pip", "setuptools>=77", "cython>=3.1"], HERE / "build.txt", HERE / "dev.txt")


if __name__ == "__main__":
    main()
