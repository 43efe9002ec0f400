"""Looks up known vulnerabilities of all that is pinned, and says how much could be looked up.

pip-audit asks the package index that pip is configured with. A mirror without vulnerability data
answers for nothing: that is told, and is no failure, since it says nothing about the packages.
Where that is all there is, a copy of PyPA's advisory database does instead, from which the index
has its data, too: `make audit ADVISORIES=FOLDER` (of the git repository pypa/advisory-database).
Exit code 1: a known vulnerability.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HERE = Path(__file__).parent
FILES = ("build.txt", "runtime.txt", "dev.txt")


def main() -> None:
    """Audits all that is pinned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--advisories", type=Path, help="a copy of PyPA's advisory database")
    advisories = parser.parse_args().advisories
    problems = [
        problem
        for file in FILES
        for problem in (_asked(HERE / file) if advisories is None else _read(advisories, file))
    ]
    for problem in problems:
        print(problem)  # noqa: T201
    if problems:
        raise SystemExit(1)


def _asked(file: Path) -> Iterator[str]:
    """What the index knows of what a file pins."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pip_audit", "--requirement", str(file), "--require-hashes",
            "--disable-pip", "--progress-spinner", "off", "--format", "json",
        ],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode not in {0, 1} or not done.stdout.strip():
        raise SystemExit(f"pip-audit did not run: {done.stderr.strip()}")
    found = json.loads(done.stdout)["dependencies"]
    looked_up = [package for package in found if "skip_reason" not in package]
    print(f"{file.name}: {len(looked_up)} of {len(found)} packages looked up")  # noqa: T201
    for package in looked_up:
        for problem in package["vulns"]:
            fixed = ", ".join(problem["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {problem['id']}, fixed in {fixed}"


def _read(advisories: Path, file: str) -> Iterator[str]:
    """What a copy of the database knows of what a file pins."""
    folder = advisories / "vulns"
    known = {canonicalize_name(one.name): one for one in folder.iterdir() if one.is_dir()}
    if not known:
        raise SystemExit(f"{folder} has no advisories")
    pins = dict(pinned((HERE / file).read_text()))
    read = 0
    for name, version in pins.items():
        for path in sorted(known[name].glob("*.yaml")) if name in known else ():
            advisory = yaml.safe_load(path.read_text())
            read += 1
            if "withdrawn" not in advisory and affects(advisory, name, version):
                yield f"{name} {version}: {advisory['id']}"
    print(f"{file}: {len(pins)} packages looked up, {read} advisories read")  # noqa: T201


def pinned(requirements: str) -> Iterator[tuple[str, str]]:
    """Names, in their canonical form, and versions that a file of requirements pins."""
    for line in requirements.splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.partition("\\")[0].strip())
            (pin,) = requirement.specifier
            yield canonicalize_name(requirement.name), pin.version


def affects(advisory: dict[str, Any], name: str, version: str) -> bool:
    """Whether an advisory in the form of OSV (its "evaluation algorithm") is about a version."""
    return any(
        version in affected.get("versions", ())
        or any(
            _holds(one["events"], Version(version))
            for one in affected.get("ranges", ())
            if one["type"] == "ECOSYSTEM"
        )
        for affected in advisory["affected"]
        if canonicalize_name(affected["package"]["name"]) == name
    )


def _holds(events: list[dict[str, str]], version: Version) -> bool:
    vulnerable = False
    pairs = (pair for event in events for pair in event.items())
    for kind, at in sorted(pairs, key=lambda pair: Version(pair[1])):
        if kind == "introduced" and version >= Version(at):
            vulnerable = True
        elif (kind == "fixed" and version >= Version(at)) or (
            kind == "last_affected" and version > Version(at)
        ):
            vulnerable = False
    return vulnerable


if __name__ == "__main__":
    main()
