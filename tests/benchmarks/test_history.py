"""The checker of histories: what it refuses, what it lets pass, and recorded histories."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import Operation, check, read_history, staleness, write_history

HISTORIES = Path(__file__).parent / "histories"


def like(begin: float, end: float, entity: str, token: int = 0, **fields: Any) -> Operation:
    return Operation("like", begin, end, "writer", 0, "ada", entity=entity, token=token, **fields)


def read(begin: float, end: float, *seen: str, **fields: Any) -> Operation:
    told = {"kind": "read", "caller": "reader", "connection": 0, "user": "ada", **fields}
    return Operation(begin=begin, end=end, seen=seen, **told)


def last(*seen: str, **fields: Any) -> Operation:
    return read(90, 91, *seen, **{"kind": "last", "token": 100, **fields})


def rules(*history: Operation, **arguments: Any) -> list[str]:
    return [violation.rule for violation in check(history, **arguments)]


def test_history_in_order_passes() -> None:
    assert not rules(
        read(0, 1),
        like(2, 3, "a", 10),
        read(4, 5, "a", token=10, fresh=11),
        like(6, 7, "b", 12),
        read(8, 9, "a", "b", token=12, fresh=13),
        last("a", "b"),
    )


@pytest.mark.parametrize("seen", [(), ("a",)])
def test_read_beside_a_like_may_know_of_it_or_not(seen: tuple[str, ...]) -> None:
    assert not rules(like(2, 5, "a", 10), read(1, 3, *seen), read(4, 6, "a"), last("a"))


@pytest.mark.parametrize("seen", [(), ("a",)])
def test_like_that_failed_may_have_been_stored_or_not(seen: tuple[str, ...]) -> None:
    assert not rules(like(2, 3, "a", status="UNAVAILABLE"), read(4, 5, *seen), last(*seen))


def test_like_that_failed_may_come_late_but_does_not_go_again() -> None:
    failed = like(2, 3, "a", status="UNAVAILABLE")
    assert not rules(failed, read(4, 5), read(6, 7, "a"))
    assert rules(failed, read(4, 5, "a"), read(6, 7)) == ["back"]


def test_read_with_the_token_of_a_like_that_lacks_it_is_refused() -> None:
    history = [like(2, 3, "a", 10), read(3.01, 4, token=10), last("a")]
    (violation,) = check(history)
    assert (violation.rule, violation.user, violation.operations) == ("stale", "ada", (1, 0))
    assert violation.message == ("a is in the list although the token is of 10 and the like of 10")


def test_read_with_a_token_that_lacks_an_older_like_is_refused() -> None:
    older, newer = like(2, 3, "a", 10), like(4, 5, "b", 12)
    assert rules(older, newer, read(5.01, 6, "b", token=12), last("a", "b")) == ["stale"]


def test_read_with_a_token_need_not_know_of_a_later_like() -> None:
    older, newer = like(2, 3, "a", 10), like(4, 5, "b", 12)
    assert not rules(older, newer, read(5.01, 6, "a", token=10), last("a", "b"))


def test_read_with_a_token_need_not_know_of_an_older_like_that_was_not_acknowledged() -> None:
    slow, quick = like(2, 8, "a", 10), like(3, 4, "b", 12)
    assert not rules(slow, quick, read(5, 6, "b", token=12), last("a", "b"))


def test_like_of_the_same_transaction_as_the_token_is_covered_by_it() -> None:
    history = [like(2, 8, "a", 10), like(3, 4, "b", 10), read(5, 6, "b", token=10), last("a", "b")]
    assert rules(*history) == ["stale"]


def test_answer_without_what_came_before_its_own_state_is_refused() -> None:
    history = [like(2, 3, "a", 10), read(3.01, 4, fresh=11), last("a")]
    assert rules(*history) == ["fresh"]
    assert not rules(like(2, 3, "a", 10), read(3.01, 4, fresh=10), last("a"))


@pytest.mark.parametrize(("longest", "expected"), [(0.5, []), (0.1, ["late"])])
def test_read_without_a_token_may_be_late_for_a_moment(longest: float, expected: list[str]) -> None:
    history = [like(2, 3, "a", 10), read(3.2, 4), last("a")]
    assert rules(*history, longest_secs=longest) == expected


def test_caller_whose_versions_go_back_is_refused() -> None:
    history = [like(2, 9, "a", 10), read(3, 4, "a"), read(5, 6), last("a")]
    (violation,) = check(history)
    assert (violation.rule, violation.operations) == ("back", (2, 1))


def test_overlapping_reads_of_a_caller_may_differ() -> None:
    assert not rules(like(2, 9, "a", 10), read(3, 6, "a"), read(5, 7), last("a"))


def test_callers_are_held_against_their_own_reads_alone() -> None:
    history = [like(2, 9, "a", 10), read(3, 4, "a"), read(5, 6, caller="other"), last("a")]
    assert not rules(*history)
    assert staleness(history).back_across_callers == 1


def test_versions_that_stay_back_are_told_at_every_read() -> None:
    history = [like(2, 20, "a", 10), read(3, 4, "a"), read(5, 6), read(7, 8), last("a")]
    assert rules(*history) == ["back", "back"]


def test_like_that_is_gone_at_the_end_is_lost() -> None:
    assert rules(like(2, 3, "a", 10), last()) == ["lost"]


def test_user_who_is_not_read_at_the_end_is_refused() -> None:
    assert rules(like(2, 3, "a", 10), read(4, 5, "a")) == ["lost"]
    assert rules(like(2, 3, "a", 10), last("a", token=0)) == ["lost"]


def test_like_that_nobody_made_is_refused() -> None:
    assert rules(read(0, 1, "a")) == ["unmade"]
    assert rules(read(0, 1, "a"), like(2, 3, "a", 10), last("a")) == ["unmade"]


def test_users_are_judged_apart() -> None:
    bob = read(4, 5, user="bob")
    assert not rules(like(2, 3, "a", 10), bob, last("a"))


def test_failed_reads_say_nothing() -> None:
    failed = read(4, 5, token=10, status="DEADLINE_EXCEEDED")
    assert not rules(like(2, 3, "a", 10), failed, last("a"))


def test_history_may_be_given_in_any_order() -> None:
    history = [last("a"), read(5, 6), read(3, 4, "a"), like(2, 9, "a", 10)]
    (violation,) = check(history)
    assert (violation.rule, violation.operations) == ("back", (1, 2))


def test_staleness_is_from_the_acknowledgement_to_the_last_read_that_lacks_the_like() -> None:
    measured = staleness(
        [
            read(0, 1),
            like(2, 3, "a", 10),
            read(3.25, 4),
            read(3.5, 4.5),
            read(3.75, 4.75, "a"),
            read(3.8, 4.8, token=10),
            like(5, 6, "b", 12),
            read(7, 8, "a", "b"),
        ]
    )
    assert (measured.reads, measured.stale, measured.likes) == (4, 2, 2)
    assert measured.longest_ms == pytest.approx(500)


@pytest.mark.parametrize("name", ["history.jsonl", "history.jsonl.gz"])
def test_written_history_is_read_again(tmp_path: Path, name: str) -> None:
    history = [like(2, 3, "a", 10), read(4, 5, "a", token=10, fresh=11), last("a")]
    write_history(tmp_path / name, history)
    assert read_history(tmp_path / name) == history


@pytest.mark.parametrize("line", ['{"kind": "dislike"}', "[]", "{"])
def test_line_that_is_no_operation_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "history.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"no operation|JSON|Expecting"):
        read_history(tmp_path / "history.jsonl")


def test_recorded_history_passes() -> None:
    history = read_history(HISTORIES / "good.jsonl.gz")
    kinds = {operation.kind for operation in history}
    assert kinds == {"like", "read", "last"}
    assert check(history) == []


@pytest.mark.parametrize("rule", ["stale", "back", "lost"])
def test_doctored_history_is_refused_for_what_was_doctored(rule: str) -> None:
    good = read_history(HISTORIES / "good.jsonl.gz")
    doctored = read_history(HISTORIES / f"{rule}.jsonl.gz")
    edited = {n for n, pair in enumerate(zip(good, doctored, strict=True)) if pair[0] != pair[1]}
    violations = check(doctored)
    assert len(edited) == 1
    assert {violation.rule for violation in violations} == {rule}
    assert {violation.operations[0] for violation in violations} == edited


def test_history_of_a_fault_that_was_caught_is_refused() -> None:
    """A ready answer was given after the COMMIT of a like, another request having shown it."""
    history = read_history(HISTORIES / "caught.jsonl.gz")
    later, earlier = next(v.operations for v in check(history) if v.rule == "back")
    assert set(history[earlier].seen) - set(history[later].seen) == {"item-0000005"}
