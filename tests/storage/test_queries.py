"""Named SQL: every statement is good, every source has its file, and no SQL is made of strings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage
from engine.sources import BY_NAME
from storage.database import Database
from storage.queries import all_statements, candidate_sources

STORAGE = Path(storage.__file__).parent
SENDING = {"cursor", "execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare"}
BUILDING = {"format", "format_map", "join", "replace", "removeprefix", "removesuffix"}
SHAPED = {"queries.py"}
"""Modules that may fill fragments of other files and `{dimension}` into a statement."""


async def test_every_statement_prepares(owner_database: Database):
    failed = {}
    async with owner_database.connection(None) as connection:
        for name, text in all_statements():
            try:
                await connection.prepare(text)
            except Exception as error:  # noqa: BLE001 - each is reported by its name
                failed[name] = str(error)
    assert failed == {}


def test_every_sql_file_is_among_the_statements():
    stems = {path.stem for path in (STORAGE / "sql").glob("*.sql")} | {"candidates", "listed"}
    assert {name.partition(".")[0] for name, _ in all_statements()} == stems


def test_no_placeholder_is_left_in_a_statement():
    assert [name for name, text in all_statements() if re.search(r"\{[a-z]+\}", text)] == []


def test_every_read_guard_is_a_condition():
    """PostgreSQL drops a stable function whose result nobody uses, and with it the guard."""
    unused = {
        name
        for name, text in all_statements()
        if len(re.findall(r"penchant_guard_read", text))
        != len(re.findall(r"WHERE \(SELECT (EXISTS \([^()]+\)\s+OR )?penchant_guard_read\(", text))
    }
    assert unused == set()


def test_every_candidate_source_has_its_file_and_the_other_way_round():
    assert set(candidate_sources()) == set(BY_NAME)
    files = {path.stem for path in (STORAGE / "sql" / "candidates").glob("*.sql")}
    assert files - {"_frame", "_lists", "listed"} == set(BY_NAME)


def _is_built(node: ast.expr) -> bool:
    """Whether an expression makes text at run time."""
    if isinstance(node, ast.JoinedStr):
        return True
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Mod)
    if isinstance(node, ast.IfExp):
        return _is_built(node.body) or _is_built(node.orelse)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in BUILDING
    return False


def _built_names(tree: ast.AST) -> set[str]:
    """Names that are somewhere given text made at run time."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign):
            names |= {n.id for n in [node.target] if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None and _is_built(node.value):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def statements_made_of_strings(source: str) -> Iterator[int]:
    """Lines that hand SQL made at run time to the driver."""
    tree = ast.parse(source)
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        built = _built_names(scope)
        for node in ast.walk(scope):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in SENDING
                and node.args
            ):
                sql = node.args[0]
                if _is_built(sql) or (isinstance(sql, ast.Name) and sql.id in built):
                    yield node.lineno


@pytest.mark.parametrize("path", sorted(STORAGE.glob("*.py")), ids=lambda path: path.name)
def test_no_sql_is_made_of_strings(path: Path):
    if path.name not in SHAPED:
        assert list(statements_made_of_strings(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        'await c.fetch(f"SELECT {x}")',
        'await c.execute("SELECT %s" % x)',
        'await c.fetchval("SELECT " + x)',
        'await c.fetchrow("SELECT {}".format(x))',
        'await c.fetch(" ".join(parts))',
        'await c.fetch(_SQL["a"].replace("b", x))',
        'sql = f"SELECT {x}"; await c.cursor(sql)',
        'sql = "SELECT 1"; sql += x; await c.execute(sql)',
        'await c.fetch("a" if y else f"{x}")',
    ],
)
def test_sql_made_of_strings_is_found(line: str):
    assert list(statements_made_of_strings(f"async def work(c, x, y, parts):\n    {line}\n"))


def test_named_sql_is_no_sql_made_of_strings():
    line = 'await c.fetch(_SQL["a"], f"{x}", *y)'
    assert list(statements_made_of_strings(f"async def work(c, x, y):\n    {line}\n")) == []
