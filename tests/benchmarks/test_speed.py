"""The speed table: what h2load says, how lines are judged, and that every row is documented."""

import io
import json
import math
import os
import re

import numpy as np
import pytest
from rich.console import Console

from benchmarks.bench import FORMS, Goal, Line, Result
from benchmarks.contest import Figures, middle
from benchmarks.h2load import Calls, Work, calls_of, command, framed, of_round, parse_log
from benchmarks.processes import cpu_seconds, memory_mib
from benchmarks.rows import BY_NAME, ROWS
from benchmarks.speed import as_json, figure, markdown_of, options, record, sides_of, table_of
from tests.docs import reading

PERFORMANCE = reading.ROOT / "docs" / "performance.md"


def test_framed_body_has_flag_and_length() -> None:
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_log_is_read_without_a_torn_last_line_and_with_further_columns() -> None:
    log = "100\t200\t1500\tmore\n200\t-1\t10\n300\t200\t25"
    assert parse_log(log).tolist() == [[100, 200, 1500], [200, -1, 10]]


def test_log_that_is_empty_has_no_rows() -> None:
    assert parse_log("").shape == (0, 3)


def test_calls_of_several_logs_are_counted_together() -> None:
    calls = calls_of(["1\t200\t3000\n2\t-1\t9\n", "1\t200\t1000\n"], 2.0)
    assert calls.per_second == 1.0
    assert calls.failed == 1
    assert calls.took_ms.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 501.0), (0.99, 991.0), (0.999, 1000.0)])
def test_quantiles_are_of_the_sorted_calls(share: float, expected: float) -> None:
    assert Calls(1.0, np.arange(1.0, 1001.0), 0).at(share) == expected


def test_quantile_of_no_calls_is_nan() -> None:
    assert math.isnan(Calls(1.0, np.empty(0), 0).at(0.5))


def test_h2load_gets_its_share_of_the_callers(tmp_path) -> None:
    work = Work("h:1", "/s/M", [b"a", b"b"], 16, (("x-tenant-id", "t"),), 2, core=None)
    words = command(work, 1.5, tmp_path / "body", tmp_path / "log")
    assert words[:4] == [
        "h2load", "--clients=2", "--max-concurrent-streams=4", "--duration=1500ms",
    ]  # fmt: skip
    assert "--header=x-tenant-id: t" in words
    assert words[-1] == "http://h:1/s/M"


def test_callers_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        Work("h:1", "/s/M", [b"a", b"b", b"c"], 16)


def test_rounds_take_other_bodies_in_turn() -> None:
    work = Work("h:1", "/s/M", [b"0", b"1"], 2)
    bodies = [b"0", b"1", b"2"]
    assert [list(of_round(work, bodies, n).bodies) for n in range(2)] == [
        [b"0", b"1"], [b"2", b"0"],
    ]  # fmt: skip


def test_middle_is_the_median_of_each_figure_and_the_sum_of_calls() -> None:
    rounds = [Figures(n, p50_ms=10 - n, calls=1) for n in (1.0, 2.0, 9.0)]
    assert middle(rounds).per_second == 2.0
    assert middle(rounds).p50_ms == 8.0
    assert middle(rounds).calls == 3


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [
        (Goal(0.85, 0.95), 0.85, True),
        (Goal(0.85, 0.95), 0.84, False),
        (Goal(1.3, 1.3, at_most=True), 1.3, True),
        (Goal(1.3, 1.3, at_most=True), 1.31, False),
    ],
)
def test_goal_is_met_from_its_value_on(goal: Goal, ratio: float, met: bool) -> None:
    assert Line("m", ratio, 1.0, goal).met is met


def test_line_without_goal_is_neither_met_nor_missed() -> None:
    assert Line("m", 1.0, 2.0).met is None


@pytest.mark.parametrize(
    ("value", "shown"), [(12345.6, "12,346"), (45.67, "45.7"), (0.1234, "0.123"), (math.nan, "")]
)
def test_figures_have_as_many_digits_as_say_something(value: float, shown: str) -> None:
    assert figure(value) == shown


def results() -> dict[str, Result]:
    lines = (
        Line("calls/s", 4250.0, 5000.0, Goal(0.85, 0.95)),
        Line("p99 ms", 4.0, 2.0, Goal(1.3, 1.3, at_most=True)),
        Line("CPU ms a call", 0.2, 0.1),
    )
    return {
        "hot": Result(lines, {"ours": Figures(4250.0, 1.0, 4.0, 5.0, 0.2)}),
        "matrix": Result(note="not run: no --gowalla"),
    }


def shown(table) -> str:
    text = io.StringIO()
    Console(width=150, file=text).print(table)
    return text.getvalue()


def test_table_says_ratio_goal_and_whether_it_is_met() -> None:
    text = shown(table_of(results()))
    assert re.search(r"calls/s +│ 4,250 +│ 5,000 +│ 0\.85 +│ >= 0\.85 +│ yes", text)
    assert re.search(r"p99 ms +│ 4 +│ 2 +│ 2 +│ <= 1\.3 +│ no", text)
    assert "not run: no --gowalla" in text


def test_recorded_table_stands_between_its_marks(tmp_path) -> None:
    document = tmp_path / "page.md"
    document.write_text("a\n<!-- recorded: begin -->\nold\n<!-- recorded: end -->\nb\n")
    for _ in range(2):
        record(document, markdown_of(results()))
    lines = document.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("a", "b")
    assert lines[4].startswith("| Recommend, hot / echo of the same bytes | calls/s | 4,250 |")
    assert "old" not in lines


def test_sides_are_told_without_what_was_not_measured() -> None:
    assert re.search(
        r"hot +│ ours +│ 4,250 +│ 1 +│ 4 +│ 5 +│ 0\.2 +│ +│", shown(sides_of(results()))
    )


def test_json_has_every_line_and_can_be_read_again() -> None:
    read = json.loads(json.dumps(as_json("short", results()), allow_nan=False))
    assert read["rows"]["hot"]["lines"][0]["met"] is True
    assert read["rows"]["hot"]["sides"]["ours"] == {
        "per_second": 4250.0, "p50_ms": 1.0, "p99_ms": 4.0, "p999_ms": 5.0, "cpu_ms": 0.2,
        "calls": 0,
    }  # fmt: skip
    assert read["rows"]["matrix"]["note"] == "not run: no --gowalla"


def test_rows_are_all_documented_with_a_command_that_parses() -> None:
    rows = [reading.cells(row) for row in reading.marked(PERFORMANCE, "rows")[2:]]
    commands = [row[0].strip("`").split() for row in rows]
    assert [words[-1] for words in commands] == [row.name for row in ROWS]
    for words in commands:
        assert words[:3] == ["python", "-m", "benchmarks.speed"]
        assert options().parse_args(words[3:]).row == [words[-1]]


def test_rows_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(ROWS)


def test_forms_are_those_of_the_command_line() -> None:
    for words in ([], ["--short"], ["--long"]):
        assert options().parse_args(words).form in FORMS


def test_processes_tell_time_and_memory_of_this_one() -> None:
    assert cpu_seconds([os.getpid()]) > 0
    assert memory_mib([os.getpid()]) > 1


def test_processes_that_have_ended_have_used_nothing() -> None:
    assert cpu_seconds([2**22 + 1]) == 0
