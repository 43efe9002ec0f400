"""Version slots: what one process changes, every other knows at once."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import queries, sessions
from storage.database import Database
from storage.version_slots import VersionSlots

_BUMPS = re.compile(
    r"nextval\('revision_seq'\)|EXCLUDED\.revision"
    r"|INSERT INTO model_promotions|penchant_move_switch"
)
_NOT_ANSWERS = {
    "api_keys": "a worker reads the keys twice a second",
    "flag_restored": "what is refused from then on changes no answer",
    "create_tenant": "nobody has asked for a tenant that is new",
}


def test_stamp_holds_until_its_user_or_tenant_changes() -> None:
    slots = VersionSlots()
    ada, ben = slots.stamp("a", "ada"), slots.stamp("a", "ben")
    nobody, other = slots.stamp("a", ""), slots.stamp("b", "ada")
    slots.tell("a", ["ada"])
    assert [slots.holds(s) for s in (ada, ben, nobody, other)] == [False, True, True, True]
    slots.tell("a")
    assert [slots.holds(s) for s in (ben, nobody, other)] == [False, False, True]


def test_withdrawal_is_told_beside_the_change() -> None:
    slots = VersionSlots()
    ada, other = slots.stamp("a", "ada"), slots.stamp("b", "ada")
    slots.tell("a", ["ada"])
    slots.tell("a")
    assert (slots.holds(ada), slots.stands(ada)) == (False, True)
    slots.tell("a", withdraws=True)
    assert (slots.stands(ada), slots.stands(other)) == (False, True)
    assert slots.stands(slots.stamp("a", "ada"))


def test_withdrawal_of_another_host_counts_and_so_does_silence() -> None:
    here, there = VersionSlots(several_hosts=True), VersionSlots()
    here.linked_for(60)
    stamp, before = here.stamp("a", "ada"), there.numbers_here()
    there.tell("a", ["ada"])
    here.tell_elsewhere(np.flatnonzero(there.numbers_here() != before).astype(np.uint32))
    assert (here.holds(stamp), here.stands(stamp)) == (False, True)
    here.linked_for(0)
    assert not here.stands(stamp)
    here.linked_for(60)
    there.tell("a", withdraws=True)
    here.tell_elsewhere(np.flatnonzero(there.numbers_here() != before).astype(np.uint32))
    assert not here.stands(stamp)


def test_processes_that_share_a_directory_see_each_others_changes(tmp_path: Path) -> None:
    mine, yours = VersionSlots(tmp_path), VersionSlots(tmp_path)
    stamp = mine.stamp("a", "ada")
    yours.tell("a", ["ada"])
    assert not mine.holds(stamp)
    assert yours.holds(mine.stamp("a", "ada"))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["ada", "ben"])), max_size=30))
def test_numbers_never_come_back(changes: list[tuple[bool, str]]) -> None:
    tables = VersionSlots(), VersionSlots()
    # One table of numbers, two writers.
    tables[1]._numbers = tables[0]._numbers
    stamps = [tables[0].stamp("a", "ada")]
    for first, user in changes:
        tables[not first].tell("a", [user])
        if user == "ada":
            assert not any(tables[0].holds(stamp) for stamp in stamps)
        stamps.append(tables[0].stamp("a", "ada"))


async def test_loan_that_fails_tells_too(database: Database) -> None:
    stamp = database.slots.stamp("a", "ada")
    with pytest.raises(RuntimeError):
        async with database.transaction("a") as connection:
            sessions.changed(connection, "a", ["ada"])
            assert not database.slots.holds(stamp)
            raise RuntimeError
    assert not database.slots.holds(stamp)


def _bumping() -> set[str]:
    """Names of the statements that make cached answers unusable."""
    found = set()
    for name, text in queries.all_statements():
        if _BUMPS.search(text):
            found.add(name)
    return found


def _tellers(tree: ast.AST) -> dict[str, bool]:
    """Statements by name, and whether each function that sends it calls `changed` before."""
    found: dict[str, bool] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        told = [
            node.lineno
            for node in ast.walk(function)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "changed"
        ]
        for node in ast.walk(function):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                before = any(line <= node.lineno for line in told)
                name = str(node.slice.value)
                found[name] = found.get(name, True) and before
    return found


def test_whoever_sends_a_statement_that_changes_answers_tells_so() -> None:
    sent: dict[str, bool] = {}
    for path in Path(queries.__file__).parent.glob("*.py"):
        for name, told in _tellers(ast.parse(path.read_text())).items():
            sent[name] = sent.get(name, True) and told
    silent = [
        statement
        for statement in sorted(_bumping())
        if statement.partition(".")[0] not in _NOT_ANSWERS
        and (name := statement.partition(".")[2]) not in _NOT_ANSWERS
        and not sent[name]
    ]
    assert silent == []


def test_statements_that_change_answers_are_found() -> None:
    assert {
        "entities.delete_entity",
        "interactions.ingest_interactions",
        "interactions.rebuild_profiles",
        "placements.switch",
        "promotions.promote",
        "tenants.bump_catalogue",
        "tenants.update_tenant",
        "users.bump_users",
    } <= _bumping()
