"""The queue of a tenant's single writes: who is stored with whom, who fails, who is left out."""

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime

import pytest

from engine import group_commit
from engine.group_commit import MOST_ROWS, GroupCommit
from storage.exceptions import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    PenchantError,
    QuotaExceeded,
    ResourceExhausted,
    Unavailable,
)
from storage.tenants import Quotas, Tenant, TenantSettings
from tests.waiting import until


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of a busy machine must not look like a slow group, which lets another begin."""
    monkeypatch.setattr(group_commit, "_SLOW_SECS", 60)


_WHEN = datetime(2026, 1, 1, tzinfo=UTC)
WHO: ContextVar[str] = ContextVar("who", default="nobody")


def tenant(tenant_id: str = "a", version: int = 1) -> Tenant:
    return Tenant(
        tenant_id=tenant_id,
        tenant_no=1,
        display_name="",
        placement=0,
        dimension=2,
        profile_half_life_secs=1.0,
        settings=TenantSettings(),
        version=version,
        created_at=_WHEN,
        updated_at=_WHEN,
        interaction_types={},
        quotas=Quotas(),
    )


class Table:
    """Stores rows; the first group of a tenant is held until `release`.

    Attributes:
        groups: what each statement was given.
        rows: what was stored.
    """

    def __init__(self, *, room: int = 10**9, held: bool = True) -> None:
        self.groups: list[list[str]] = []
        self.rows: list[str] = []
        self.tenants: list[Tenant] = []
        self.seen: list[str] = []
        self.error: Exception | None = None
        self._room = room
        self._held = asyncio.Event()
        if not held:
            self._held.set()

    def release(self) -> None:
        self._held.set()

    async def store(self, of: Tenant, rows: Sequence[str]) -> list[str | PenchantError]:
        self.groups.append(list(rows))
        self.tenants.append(of)
        self.seen.append(WHO.get())
        await self._held.wait()
        if self.error is not None:
            raise self.error
        if "poison" in rows:
            raise FailedPrecondition("poisoned")
        if "fault" in rows:
            raise ZeroDivisionError
        if len(self.rows) + len(rows) > self._room:
            raise QuotaExceeded("a", "interactions_per_day", self._room)
        answers: list[str | PenchantError] = []
        for row in rows:
            if row == "bad":
                answers.append(InvalidArgument("bad"))
            else:
                self.rows.append(row)
                answers.append(row.upper())
        return answers


async def turn() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def begin(
    commit: GroupCommit[str, str], *rows: str, deadline: float | None = None
) -> list[asyncio.Task[str]]:
    """Calls that have arrived."""
    tasks = [asyncio.create_task(commit.put(tenant(), row, deadline)) for row in rows]
    await turn()
    return tasks


async def outcome(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    """What each call gave, or the class of what it raised."""
    given = await asyncio.gather(*tasks, return_exceptions=True)
    return [each if isinstance(each, str) else type(each).__name__ for each in given]


async def test_calls_of_one_moment_are_one_group():
    table = Table(held=False)
    tasks = await begin(GroupCommit(table.store), "x", "y", "z")
    assert await outcome(tasks) == ["X", "Y", "Z"]
    assert table.groups == [["x", "y", "z"]]


async def test_calls_wait_for_the_group_under_way_and_are_the_next():
    table = Table()
    commit = GroupCommit(table.store)
    tasks = await begin(commit, "x")
    tasks += await begin(commit, "y")
    tasks += await begin(commit, "z")
    assert table.groups == [["x"]]
    table.release()
    assert await outcome(tasks) == ["X", "Y", "Z"]
    assert table.groups == [["x"], ["y", "z"]]


async def test_groups_are_of_bounded_size():
    table = Table(held=False)
    rows = [str(number) for number in range(2 * MOST_ROWS + 1)]
    tasks = await begin(GroupCommit(table.store, most_waiting=10**6), *rows)
    assert await outcome(tasks) == rows
    assert [len(group) for group in table.groups] == [MOST_ROWS, MOST_ROWS, 1]


async def test_tenants_do_not_wait_for_each_other():
    table = Table()
    commit = GroupCommit(table.store)
    tasks = [asyncio.create_task(commit.put(tenant(name), name)) for name in "ab"]
    await turn()
    assert table.groups == [["a"], ["b"]]
    table.release()
    assert await outcome(tasks) == ["A", "B"]


async def test_group_is_stored_for_the_newest_row_of_the_tenant():
    table = Table(held=False)
    commit = GroupCommit(table.store)
    tasks = [asyncio.create_task(commit.put(tenant("a", v), str(v))) for v in (3, 7, 5)]
    await outcome(tasks)
    assert [of.version for of in table.tenants] == [7]


async def test_group_sees_nothing_of_a_caller_s_context():
    table = Table(held=False)
    WHO.set("ada")
    await outcome(await begin(GroupCommit(table.store), "x"))
    assert table.seen == ["nobody"]


async def test_row_s_own_error_is_its_caller_s():
    table = Table(held=False)
    tasks = await begin(GroupCommit(table.store), "x", "bad", "y")
    assert await outcome(tasks) == ["X", "InvalidArgument", "Y"]
    assert table.groups == [["x", "bad", "y"]]


@pytest.mark.parametrize(
    ("culprit", "error"), [("poison", "FailedPrecondition"), ("fault", "ZeroDivisionError")]
)
async def test_row_that_a_group_fails_of_fails_alone(culprit, error):
    table = Table(held=False)
    rows = [str(number) for number in range(20)]
    tasks = await begin(GroupCommit(table.store), *rows[:9], culprit, *rows[9:])
    assert await outcome(tasks) == [*rows[:9], error, *rows[9:]]
    assert table.rows == rows
    assert len(table.groups) < 20


async def test_rows_that_fit_a_quota_are_stored():
    table = Table(room=5, held=False)
    rows = [str(number) for number in range(8)]
    assert await outcome(await begin(GroupCommit(table.store), *rows)) == [
        *rows[:5],
        *["QuotaExceeded"] * 3,
    ]
    assert table.rows == rows[:5]


async def test_tenant_without_room_costs_one_statement_a_row():
    table = Table(room=0, held=False)
    commit = GroupCommit(table.store)
    keeping_on = await begin(commit, "a", "b", "c")
    await outcome(keeping_on)
    count = len(table.groups)
    tasks = []
    for row in "defghij":
        tasks += await begin(commit, row)
    await outcome(tasks)
    assert len(table.groups) - count == 7


@pytest.mark.parametrize("error", [Unavailable(), DeadlineExceeded()])
async def test_error_that_no_row_caused_is_everybody_s(error):
    table = Table(held=False)
    table.error = error
    tasks = await begin(GroupCommit(table.store), "x", "y")
    assert await outcome(tasks) == [type(error).__name__] * 2
    assert len(table.groups) == 1


async def test_cancelled_call_that_waits_is_not_stored():
    table = Table()
    commit = GroupCommit(table.store)
    tasks = await begin(commit, "x")
    tasks += await begin(commit, "y", "z")
    tasks[1].cancel()
    await turn()
    table.release()
    assert await outcome(tasks) == ["X", "CancelledError", "Z"]
    assert table.rows == ["x", "z"]


async def test_cancelled_call_under_way_does_not_end_its_group():
    table = Table()
    tasks = await begin(GroupCommit(table.store), "x", "y")
    tasks[0].cancel()
    await turn()
    table.release()
    assert await outcome(tasks) == ["CancelledError", "Y"]
    assert table.rows == ["x", "y"]


async def test_deadline_that_comes_in_the_queue_keeps_the_row_out():
    table = Table()
    commit = GroupCommit(table.store)
    tasks = await begin(commit, "x")
    tasks += await begin(commit, "y", deadline=time.monotonic() - 0.001)
    tasks += await begin(commit, "z", deadline=time.monotonic() + 60)
    table.release()
    assert await outcome(tasks) == ["X", "DeadlineExceeded", "Z"]
    assert table.rows == ["x", "z"]


async def test_full_queue_refuses_with_a_time():
    table = Table()
    commit = GroupCommit(table.store, most_waiting=2)
    tasks = await begin(commit, "x")
    tasks += await begin(commit, "y", "z")
    with pytest.raises(ResourceExhausted) as refused:
        await commit.put(tenant(), "more")
    assert refused.value.retry_after is not None
    other = asyncio.create_task(commit.put(tenant("b"), "other"))
    table.release()
    assert await outcome([*tasks, other]) == ["X", "Y", "Z", "OTHER"]
    assert "more" not in table.rows


async def test_slow_group_lets_others_pass(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(group_commit, "_SLOW_SECS", 0.01)
    table = Table()
    commit = GroupCommit(table.store)
    tasks = await begin(commit, "x")
    monkeypatch.setattr(group_commit, "_SLOW_SECS", 60)
    tasks += await begin(commit, "y")
    await until(lambda: len(table.groups) == 2)
    tasks += await begin(commit, "z")
    assert table.groups == [["x"], ["y"]]
    table.release()
    assert await outcome(tasks) == ["X", "Y", "Z"]
    assert table.groups == [["x"], ["y"], ["z"]]


async def test_so_many_groups_of_a_tenant_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(group_commit, "_SLOW_SECS", 0.001)
    table = Table()
    commit = GroupCommit(table.store)
    tasks = []
    for row in "abcdefgh":
        tasks += await begin(commit, row)
        await asyncio.sleep(0.02)
    assert table.groups == [["a"], ["b"], ["c"], ["d"]]
    table.release()
    assert await outcome(tasks) == list("ABCDEFGH")
    assert table.groups[4:] == [list("efgh")]
