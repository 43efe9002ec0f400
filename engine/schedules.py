"""When a model is trained by itself: cron expressions of five fields, in UTC.

As crontab(5) has it: Sunday is 0 or 7, and where both days of the month and days of the week are
given, either is enough. (APScheduler, which does the arithmetic, counts days from Monday and wants
both.)
"""

import re
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger

from storage.exceptions import InvalidArgument

_FIELD = "model.schedule"
_FIELDS = 5
_MAX_LENGTH = 200
_HORIZON = timedelta(days=41 * 366)
"""Longer than 29 February can be in falling on a given day of the week, 2100 in between."""

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?P<first>\*|[0-9]|[a-z]{3})(-(?P<last>[0-9]|[a-z]{3}))?(/(?P<step>[0-9]+))?")
_PLAIN = re.compile(r"[0-9a-z*,/-]+")


def check_schedule(text: str) -> str:
    """The schedule, blanks and case evened out; "" stands for none.

    Raises:
        InvalidArgument: it does not parse, or its time never comes.
    """
    if len(text) > _MAX_LENGTH:
        raise InvalidArgument.field(_FIELD, f"is longer than {_MAX_LENGTH} characters.")
    schedule = " ".join(text.lower().split())
    if not schedule:
        return ""
    try:
        coming = next_run(schedule, datetime.now(UTC))
    except ValueError as error:
        raise InvalidArgument.field(
            _FIELD,
            f'is no cron expression of five fields such as "0 3 * * *": {error}.',
        ) from error
    if coming is None:
        raise InvalidArgument.field(_FIELD, "names a time that never comes.")
    return schedule


def next_run(schedule: str, after: datetime) -> datetime | None:
    """The first time of a schedule later than an instant; None: there is none ("" too).

    Raises:
        ValueError: it does not parse.
    """
    if not schedule.strip():
        return None
    begin = after.astimezone(UTC) + timedelta(microseconds=1)
    times = [trigger.get_next_fire_time(None, begin) for trigger in _triggers(schedule, begin)]
    return min((time for time in times if time is not None), default=None)


def _triggers(schedule: str, begin: datetime) -> list[CronTrigger]:
    """What fires at its times from an instant on; the earliest of several counts."""
    fields = schedule.lower().split()
    if len(fields) != _FIELDS:
        raise ValueError(f"it has {len(fields)} fields")
    for field in fields:
        if not _PLAIN.fullmatch(field):
            raise ValueError(f'"{field}" has signs other than letters, digits and * , - /')
    minute, hour, day, month, week = fields
    weekdays = _weekdays(week)
    either = day[0] != "*" and week[0] != "*"
    days = [(day, "*"), ("*", weekdays)] if either else [(day, weekdays)]
    return [
        CronTrigger(
            minute=minute,
            hour=hour,
            day=of_month,
            month=month,
            day_of_week=of_week,
            end_date=begin + _HORIZON,
            timezone=UTC,
        )
        for of_month, of_week in days
    ]


def _weekdays(field: str) -> str:
    """Days of the week by name, which mean the same everywhere."""
    named: set[int] = set()
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f'"{part}" is no day of the week')
        step = int(found["step"] or 1)
        if not step:
            raise ValueError("a step is 0")
        if found["first"] == "*":
            first, last = 0, 6
        else:
            first = _weekday(found["first"])
            last = _weekday(found["last"]) if found["last"] else (6 if found["step"] else first)
        if last < first and last == 0:
            last = 7  # "fri-sun"
        if last < first:
            raise ValueError(f'"{part}" ends before it begins')
        named |= {number % 7 for number in range(first, last + 1, step)}
    return ",".join(_DAYS[number] for number in sorted(named))


def _weekday(text: str) -> int:
    if text.isdigit() and int(text) <= 7:
        return int(text)
    if text in _DAYS:
        return _DAYS.index(text)
    raise ValueError(f'"{text}" is no day of the week')
