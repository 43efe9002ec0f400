"""No statement is built from what a caller sends: every one stands in a file or is a constant."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORAGE = sorted((ROOT / "storage").rglob("*.py"))
OTHERS = sorted(
    p for part in ("engine", "jobs", "server", "sources") for p in (ROOT / part).rglob("*.py")
)
SENDING = {
    "execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "prepare", "cursor",
    "copy_from_query",
}  # fmt: skip
READERS = {
    "candidates",
    "index_rebuild",
    "listed",
    "load",
    "nearest",
    "remembered_lists",
    "situations",
}
"""Of storage/queries.py: they give statements out of files."""

FROM_MIGRATIONS = {
    ("storage/migrations/migrator.py", "sql"),
    ("storage/migrations/statements.py", "statement"),
}
"""Text of the migrations' own files."""

_STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|COPY|SET) [a-z_(*\"]"
)


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the module's names stand for, where they are bound once and at its top."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def _is_fixed(expression: ast.expr, names: dict[str, ast.expr]) -> bool:
    match expression:
        case ast.Constant():  # a number is how many rows a cursor shall give
            return True
        case ast.Name(id=name):
            return name in names and _is_fixed(names[name], names)
        case ast.Dict(values=statements):
            return all(_is_fixed(statement, names) for statement in statements)
        case ast.Subscript(value=table):
            return _is_fixed(table, names)
        case ast.Call(func=ast.Name(id=reader)):
            return reader in READERS
        case ast.JoinedStr(values=parts):
            return all(_is_fixed(part, names) for part in parts)
        case ast.FormattedValue(value=inner):
            return _is_fixed(inner, names)
    return False


def _sent(source: str) -> Iterator[tuple[int, str, bool]]:
    """The statements that a module sends: line, text, whether it is fixed."""
    tree = ast.parse(source)
    names = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = [*node.args, *(k.value for k in node.keywords if k.arg == "query")]
            if node.func.attr in SENDING and given:
                yield node.lineno, ast.unparse(given[0]), _is_fixed(given[0], names)


@pytest.mark.parametrize("path", STORAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_statements_of_storage_are_fixed(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    loose = [
        (line, text)
        for line, text, fixed in _sent(path.read_text(encoding="utf-8"))
        if not fixed and (name, text) not in FROM_MIGRATIONS
    ]
    assert loose == []


def test_statements_are_found_at_all() -> None:
    found = sum(len(list(_sent(path.read_text(encoding="utf-8")))) for path in STORAGE)
    assert found > 100


@pytest.mark.parametrize(
    "built",
    [
        "c.fetch(f'SELECT {name}')",
        "c.fetch('SELECT ' + name)",
        "c.execute('SELECT %s' % name)",
        "c.fetchrow('SELECT {}'.format(name))",
        "c.fetchval(text)",
        "c.execute(query=f'SELECT {name}')",
    ],
)
def test_a_statement_that_is_built_is_noticed(built: str) -> None:
    assert [fixed for _, _, fixed in _sent(built)] == [False]


def test_nobody_but_storage_holds_statements() -> None:
    found = [
        (str(path.relative_to(ROOT)), node.lineno)
        for path in OTHERS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _STATEMENT.match(node.value)
    ]
    assert found == []
