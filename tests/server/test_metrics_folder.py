"""Folders of counts: a service that was killed leaves its own to the next one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.metrics_folder import metrics_folder

HOLDS_ONE = """
import sys
from server.metrics_folder import metrics_folder
with metrics_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process, and the folder that it has."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDS_ONE], **pipes) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_folder_of_a_service_that_runs_is_left_alone_and_goes_with_it(other) -> None:
    process, folder = other
    with metrics_folder() as own:
        assert folder.is_dir()
        assert own.is_dir()
    assert not own.exists()
    process.communicate()
    assert not folder.exists()


def test_folder_of_a_service_that_was_killed_is_removed_by_the_next(other, tmp_path: Path) -> None:
    process, folder = other
    (folder / "counter_7.db").write_bytes(b"counts")
    unknown = tmp_path / "penchant-metrics-of-somebody"
    unknown.mkdir()
    process.kill()
    process.wait()
    assert folder.is_dir()
    with metrics_folder() as own:
        assert sorted(tmp_path.iterdir()) == sorted([own, unknown])
