"""Cron expressions: what is refused, and when they come."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from engine.schedules import check_schedule, next_run
from storage.exceptions import InvalidArgument

SATURDAY = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("0 3 * * *", datetime(2026, 11, 22, 3, tzinfo=UTC)),
        ("*/15 * * * *", datetime(2026, 11, 21, 3, 15, tzinfo=UTC)),
        ("30 4 1,15 * *", datetime(2026, 12, 1, 4, 30, tzinfo=UTC)),
        ("0 0 * * 0", datetime(2026, 11, 22, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 11, 22, tzinfo=UTC)),
        ("0 0 * * 1-5", datetime(2026, 11, 23, tzinfo=UTC)),
        ("0 0 * * tue", datetime(2026, 11, 24, tzinfo=UTC)),
        ("0 0 * * fri-sun", datetime(2026, 11, 22, tzinfo=UTC)),
        ("0 0 * * */2", datetime(2026, 11, 22, tzinfo=UTC)),
        ("0 0 * jan mon", datetime(2027, 1, 4, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("0 0 13 * 5", datetime(2026, 11, 27, tzinfo=UTC)),  # either of the two days
        ("0 0 30 2 mon", datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_next_run_is_the_first_time_after(schedule: str, expected: datetime) -> None:
    assert check_schedule(schedule) == schedule
    assert next_run(schedule, SATURDAY) == expected


def test_time_itself_is_not_after_it() -> None:
    assert next_run("0 3 * * *", SATURDAY - timedelta(microseconds=1)) == SATURDAY
    assert next_run("0 3 * * *", SATURDAY) == SATURDAY + timedelta(days=1)


def test_times_are_utc_wherever_one_asks() -> None:
    tokyo = SATURDAY.astimezone(timezone(timedelta(hours=9)))
    assert next_run("0 3 * * *", tokyo) == SATURDAY + timedelta(days=1)


def test_blanks_and_case_are_evened_out() -> None:
    assert check_schedule("  0  3 * *   MON ") == "0 3 * * mon"


@pytest.mark.parametrize("text", ["", "   "])
def test_empty_is_no_schedule(text: str) -> None:
    assert check_schedule(text) == ""
    assert next_run(text, SATURDAY) is None


@pytest.mark.parametrize(
    "text",
    [
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * 5-1",
        "*/0 * * * *",
        "* * * * */0",
        "@daily",
        "a b c d e",
        "0 0 ; drop *",
        "0 0 31 2 *",
        "0 0 30 feb *",
        "* * * * *" + " " * 300,
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_schedule(text)
    assert [violation.field for violation in raised.value.violations] == ["model.schedule"]
