"""What README.md and docs/ name, and what the code has, for the tests that compare the two."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic_settings import BaseSettings
from typer.core import TyperGroup

from server.settings import Settings
from storage.config import DatabaseConfig, MigrationConfig, RedisCacheConfig

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_GROUPS: dict[str, type[BaseSettings]] = {
    "database": DatabaseConfig,
    "migrations": MigrationConfig,
    "cache": RedisCacheConfig,
}


def all_text() -> str:
    """All documents in one."""
    return "\n".join(path.read_text() for path in DOCUMENTS)


def blocks(path: Path, language: str, heading: str = "") -> list[str]:
    """A document's fenced blocks in one language; with a heading, those of its section."""
    text = path.read_text()
    if heading:
        _, found, rest = text.partition(f"\n## {heading}\n")
        assert found, heading
        text = rest.partition("\n## ")[0]
    return [body for name, body in _FENCE.findall(text) if name == language]


def shell_lines(path: Path, heading: str = "") -> Iterator[str]:
    """The commands of a document's sh blocks; a quoted argument may run over several lines."""
    for block in blocks(path, "sh", heading):
        command = ""
        for line in block.replace("\\\n", " ").splitlines():
            command = f"{command}\n{line}" if command else line
            if command.count("'") % 2 == 0:
                yield command.strip()
                command = ""


def spans(path: Path) -> list[str]:
    """A document's inline code."""
    return _SPAN.findall(_FENCE.sub("", path.read_text()))


def marked(path: Path, name: str) -> list[str]:
    """The lines between `<!-- name: begin -->` and `<!-- name: end -->`."""
    text = path.read_text()
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    return text[text.index(begin) + len(begin) : text.index(end)].splitlines()


def cells(row: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in row.strip().strip("|").split(" | ")]


def alias_names() -> set[str]:
    """Environment variables that storage/config.py reads by a name of their own."""
    source = (ROOT / "storage" / "config.py").read_text()
    return {name for name in re.findall(r'"([A-Z]+_[A-Z_]+)"', source) if not name.endswith("_")}


def variables() -> dict[str, tuple[type[BaseSettings], str]]:
    """Every setting's environment variable, with its class and field."""
    found: dict[str, tuple[type[BaseSettings], str]] = {}
    for name in Settings.model_fields:
        if name in _GROUPS:
            config = _GROUPS[name]
            for field in config.model_fields:
                found[_variable(config, field)] = (config, field)
        else:
            found[f"PENCHANT_{name.upper()}"] = (Settings, name)
    return found


def _variable(config: type[BaseSettings], field: str) -> str:
    if config is not MigrationConfig:
        return f"{config.model_config['env_prefix']}{field.upper()}"
    names = [name for name in alias_names() if field in MigrationConfig.aliases({name: "true"})]
    (name,) = names
    return name


def settings_table() -> list[str]:
    """The README's table of settings as the code has them."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, (config, field) in variables().items():
        info = config.model_fields[field]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", "/home")
            patch.delenv("XDG_DATA_HOME", raising=False)
            default = info.get_default(call_default_factory=True, validated_data={})
        text = str(default).replace("/home", "~") if default is not None else ""
        text = text.lower() if isinstance(default, bool) else text
        rows.append(f"| `{name}` | {f'`{text}`' if text else 'none'} | {info.description} |")
    return rows


@functools.cache
def command_tree() -> TyperGroup:
    """The `penchant` command with all its commands."""
    from server.cli import app

    tree = typer.main.get_command(app.assemble())
    assert isinstance(tree, TyperGroup)
    return tree


def commands() -> dict[str, Any]:
    """Every command by its words, such as `migrate run`."""
    found: dict[str, Any] = {}
    for name, command in command_tree().commands.items():
        if isinstance(command, TyperGroup):
            found |= {f"{name} {inner}": part for inner, part in command.commands.items()}
        else:
            found[name] = command
    return found


def targets() -> set[str]:
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
