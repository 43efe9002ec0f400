"""docs/reliability.md records a run of every fault in which nothing was lost, doubled or wrong."""

from tests.docs import reading
from tests.faults.report import titles
from tests.faults.test_survival import FAULTS

RELIABILITY = reading.ROOT / "docs" / "reliability.md"


def _rows() -> list[dict[str, str]]:
    head, _, *lines = reading.marked(RELIABILITY, "faults")
    assert reading.cells(head) == titles()
    return [dict(zip(titles(), reading.cells(line), strict=True)) for line in lines]


def test_every_fault_has_a_row() -> None:
    assert FAULTS.keys() - {row["fault"] for row in _rows()} == set()


def test_nothing_acknowledged_was_lost_doubled_or_wrong() -> None:
    for row in _rows():
        assert row["acknowledged"] == row["found"], row
        assert (row["lost"], row["doubled"], row["wrong answers"]) == ("0", "0", "0"), row


def test_no_call_failed_where_that_is_promised() -> None:
    for row in _rows():
        if not FAULTS.get(row["fault"], False):
            assert row["failed calls"] == "0", row
