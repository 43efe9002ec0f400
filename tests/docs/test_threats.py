"""docs/security.md, the threat model: which threats to which part, and where each is tested."""

import re

from tests.docs import reading

SECURITY = reading.ROOT / "docs" / "security.md"
KINDS = {"S", "T", "R", "I", "D", "E"}


def threats() -> list[list[str]]:
    return [reading.cells(row) for row in reading.marked(SECURITY, "threats")[2:]]


def test_every_threat_is_complete() -> None:
    assert [row for row in threats() if len(row) != 5 or not all(row)] == []


def test_every_part_and_every_kind_has_its_threats() -> None:
    (table,) = re.findall(r"^\| Part \| What is.*?\n\n", SECURITY.read_text(), re.M | re.S)
    parts = {reading.cells(row)[0] for row in table.strip().splitlines()[2:]}
    assert {row[0] for row in threats()} == parts
    assert {row[1] for row in threats()} == KINDS


def test_every_threat_is_tested_where_it_says() -> None:
    """By files that are there and hold tests."""
    for _, _, threat, _, where in threats():
        named = re.findall(r"`([^`]+)`", where)
        assert named, threat
        for name in named:
            assert name.startswith("tests/"), name
            path = reading.ROOT / name
            assert path.is_file(), name
            assert re.search(r"^(async )?def test_", path.read_text(), re.MULTILINE), name
