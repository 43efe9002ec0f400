"""Looks up known vulnerabilities of all that is pinned, and says how much could be looked up.

pip-audit asks the package index that pip is configured with. A mirror without vulnerability data
answers for nothing: that is told, and is no failure, since it says nothing about the packages.
Exit code 1: a known vulnerability.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Audits runtime.txt and dev.txt."""
    vulnerable = 0
    for file in (HERE / "runtime.txt", HERE / "dev.txt"):
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
                vulnerable += 1
                fixed = ", ".join(problem["fix_versions"]) or "no version yet"
                name = f"{package['name']} {package['version']}"
                print(f"{name}: {problem['id']}, fixed in {fixed}")  # noqa: T201
    if vulnerable:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
