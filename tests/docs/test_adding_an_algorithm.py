"""docs/adding-an-algorithm.md, done as it says: in a copy of the tree, a file and a line."""

import filecmp
import shutil
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import pytest

from tests.docs import reading

DOCUMENT = reading.ROOT / "docs" / "adding-an-algorithm.md"
_PACKAGES = ("engine", "storage")
_CACHES = shutil.ignore_patterns("__pycache__")

_CHECK = """
from pathlib import Path

import numpy as np

import engine.models
from engine.models import BY_NAME
from engine.models.base import Interactions
from engine.models.forms import History
from engine.training.checks import check_hyperparameters, described
from engine.training.train import train
from storage.exceptions import InvalidArgument

assert Path(engine.models.__file__).is_relative_to(Path.cwd())
assert "co_count" in BY_NAME
assert "co_count" in [algorithm.name for algorithm in described()]

schema = BY_NAME["co_count"].config.model_json_schema()
assert sorted(schema["properties"]) == ["k", "least"]
for wrong in ({"k": 0}, {"kk": 1}):
    try:
        check_hyperparameters("co_count", wrong)
    except InvalidArgument as error:
        assert "k (integer, at least 1, at most 2000, default 100)" in error.message
    else:
        raise AssertionError(wrong)

# Entities 10 and 20 go together for three users, 10 and 30 for one; 40 goes with nothing.
pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 2), (4, 3), (5, 0)]
users, items = (np.array(column, np.int32) for column in zip(*pairs))
data = Interactions(
    users, items, np.ones(10, np.float32), np.zeros(10, np.int64),
    np.array([10, 20, 30, 40]), np.arange(6),
)
history = History(np.array([0], np.int32), np.ones(1, np.float32), np.zeros(1, np.float32))
for settings, expected in (({}, [1, 2]), ({"k": 1}, [1]), ({"least": 2}, [1])):
    model = train("co_count", settings, data).model
    scored = model.top(history, 10, np.empty(0, np.int32))
    assert scored.items.tolist() == expected, settings
    assert scored.scores.tolist() == [3.0, 1.0][: len(expected)]
    assert list(scored.because) == [(0,)] * len(expected)
"""


def _python(tree: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _follow(tree: Path) -> list[str]:
    """Does what the document says; returns the files that it names."""
    (change,) = reading.blocks(DOCUMENT, "diff")
    (code,) = reading.blocks(DOCUMENT, "python")
    (registry,) = [line[4:] for line in change.splitlines() if line.startswith("--- ")]
    (module,) = [line[4:] for line in change.splitlines() if line.startswith("+++ ")]
    (line,) = [line[1:] for line in change.splitlines() if line.startswith("+ ")]
    (tree / module).write_text(code)
    text = (tree / registry).read_text()
    end = text.index("\n)", text.index("ALGORITHMS: ")) + 1
    (tree / registry).write_text(f"{text[:end]}{line}\n{text[end:]}")
    return [module, registry]


def _files(tree: Path) -> set[str]:
    return {
        str(path.relative_to(tree))
        for package in _PACKAGES
        for path in (tree / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what an algorithm needs."""
    for package in _PACKAGES:
        shutil.copytree(reading.ROOT / package, tmp_path / package, ignore=_CACHES)
    return tmp_path


def test_adding_an_algorithm_takes_one_file_and_one_line(tree: Path) -> None:
    before = _files(tree)
    module, registry = _follow(tree)
    after = _files(tree)
    changed = [name for name in before if not filecmp.cmp(reading.ROOT / name, tree / name, False)]
    assert after - before == {module}
    assert before - after == set()
    assert changed == [registry]
    old, new = ((root / registry).read_text().splitlines() for root in (reading.ROOT, tree))
    lines = [line for line in unified_diff(old, new, n=0) if line[0] in "+-"][2:]
    assert len(lines) == 1
    assert lines[0].startswith("+")


def test_added_algorithm_trains_and_answers(tree: Path) -> None:
    _follow(tree)
    _python(tree, "-W", "error", "-c", _CHECK)


def test_added_algorithm_passes_the_linters(tree: Path) -> None:
    module, _ = _follow(tree)
    shutil.copy(reading.ROOT / "pyproject.toml", tree)
    for command in (("check",), ("format", "--check")):
        _python(tree, "-m", "ruff", *command, "--no-cache", module)


def test_names_load_no_algorithm(tree: Path) -> None:
    _follow(tree)
    _python(
        tree,
        "-c",
        "import sys; from engine.models import BY_NAME; assert 'co_count' in list(BY_NAME); "
        "assert not {'implicit', 'sklearn', 'numba', 'engine.models.co_count'} & set(sys.modules)",
    )
