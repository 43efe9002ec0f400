"""The audit of what is pinned, by a copy of the advisory database."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = (ROOT / "requirements" / "runtime.txt").read_text()
(GRPCIO,) = (
    line.split()[0].removeprefix("grpcio==")
    for line in PINS.splitlines()
    if line.startswith("grpcio==")
)


def audit(folder: Path, advisory: str) -> subprocess.CompletedProcess[str]:
    (folder / "vulns" / "grpcio").mkdir(parents=True)
    (folder / "vulns" / "grpcio" / "PYSEC-2026-1.yaml").write_text(advisory)
    command = [sys.executable, ROOT / "requirements" / "audit.py", "--advisories", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def advisory(*events: str, versions: str = "[]", more: str = "") -> str:
    listed = "".join(f"\n    - {event}" for event in events)
    return (
        "id: PYSEC-2026-1\n"
        f"{more}"
        "affected:\n"
        "- package: {ecosystem: PyPI, name: grpcio}\n"
        f"  versions: {versions}\n"
        "  ranges:\n"
        "  - type: ECOSYSTEM\n"
        f"    events:{listed}\n"
    )


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (advisory("introduced: '0'"), True),
        (advisory("introduced: '0'", f"fixed: {GRPCIO}.post1"), True),
        (advisory("introduced: '0'", f"fixed: {GRPCIO}"), False),
        (advisory("introduced: '0'", f"last_affected: {GRPCIO}"), True),
        (advisory("introduced: '0'", "last_affected: 1.0.0"), False),
        (advisory("introduced: 9999.0.0"), False),
        (advisory(f"introduced: {GRPCIO}", "fixed: 1.0.0", "introduced: '0'"), True),
        (advisory("introduced: 9999.0.0", versions=f"['{GRPCIO}']"), True),
        (advisory("introduced: '0'", more="withdrawn: '2026-01-01T00:00:00Z'\n"), False),
    ],
    ids=[
        "all", "fixed later", "fixed", "last affected", "affected before", "affected later",
        "affected again", "listed", "withdrawn",
    ],
)  # fmt: skip
def test_advisory_is_found_for_what_is_pinned(tmp_path: Path, text: str, is_found: bool) -> None:
    done = audit(tmp_path, text)
    assert "packages looked up, 1 advisories read" in done.stdout
    assert (done.returncode, f"grpcio {GRPCIO}: PYSEC-2026-1" in done.stdout) == (
        (1, True) if is_found else (0, False)
    ), done.stderr


def test_folder_without_advisories_is_no_clean_bill(tmp_path: Path) -> None:
    (tmp_path / "vulns").mkdir()
    command = [sys.executable, ROOT / "requirements" / "audit.py", "--advisories", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no advisories" in done.stderr
