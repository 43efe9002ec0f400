"""The command from end to end, on groups that are easy to learn."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.reading import ROOT

_GROUPS = 4
_USERS = 40
_ITEMS = 30


def _planted(directory: Path) -> list[str]:
    """Users of a group like its items: twelve to learn from, three to choose by, five to find."""
    draw = random.Random(7)
    files: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user in range(_GROUPS * _USERS):
        group = user % _GROUPS
        liked = [f"g{group}-{item}" for item in draw.sample(range(_ITEMS), 20)]
        for name, items in (("train", liked[:12]), ("valid", liked[12:15]), ("test", liked[15:])):
            files[name].append(" ".join([f"user {user}".replace(" ", "-"), *items]))
    for name, lines in files.items():
        (directory / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return [word for name in files for word in (f"--{name}", str(directory / f"{name}.txt"))]


def _run(*arguments: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert line == done.stdout.splitlines()[-1]
    result: dict[str, Any] = json.loads(line)
    return result, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("model", "recall"), [("none", 0.1), ("item_knn", 0.6), ("auto", 0.6)])
def test_quality_of_planted_groups(tmp_path: Path, model: str, recall: float) -> None:
    files = _planted(tmp_path)
    answers = tmp_path / "answers.jsonl"
    budget = ("--seconds", "30")
    result, said = _run(*files, "--model", model, "--answers", str(answers), *budget)
    assert result["asked_for"] == model
    assert result["users"] == _GROUPS * _USERS
    assert result["interactions"] == _GROUPS * _USERS * 15
    assert result["recall@20"] >= recall
    assert 0 < result["ndcg@20"] <= 1
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    steps = {"ingest", "serving"} | ({"fit"} if model != "none" else set())
    assert set(result["seconds"]) == steps
    if model == "none":
        assert result["model"] == "none"
    else:
        assert result["peak_memory_bytes"] > 0
        assert result["settings"]
        assert "training" in said
    lists = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len(lists) == _GROUPS * _USERS
    seen = {
        (line.split()[0], item)
        for name in ("train", "valid")
        for line in (tmp_path / f"{name}.txt").read_text().splitlines()
        for item in line.split()[1:]
    }
    for answer in lists:
        assert set(answer) == {"user", "items"}
        assert 0 < len(answer["items"]) <= 20
        assert len(set(answer["items"])) == len(answer["items"])
        assert not seen & {(answer["user"], item) for item in answer["items"]}


def test_quality_refuses_a_bad_line(tmp_path: Path) -> None:
    files = _planted(tmp_path)
    with (tmp_path / "test.txt").open("a") as lines:
        lines.write("1::2::3\n")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"quality: {tmp_path}/test.txt:161: ")
    assert done.stdout == ""
