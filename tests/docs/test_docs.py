"""README.md and docs/ name what there is, and all of it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from penchant.v1 import (
    admin_pb2,
    api_key_pb2,
    demand_pb2,
    embedding_pb2,
    entity_pb2,
    interaction_pb2,
    model_pb2,
    privacy_pb2,
    recommendation_pb2,
)
from penchant.v1.error_reason_pb2 import ErrorReason

from engine.models import BY_NAME
from engine.sources import SOURCES
from server.errors import STATUS_CODES
from server.metrics import Metrics
from server.settings import Settings
from storage import exceptions
from tests.docs import reading

API = reading.ROOT / "docs" / "api.md"
OPERATIONS = reading.ROOT / "docs" / "operations.md"

_FOLDERS = (
    "benchmarks", "clients", "deploy", "docs", "engine", "jobs", "migrations", "protos",
    "requirements", "server", "sources", "storage", "tests", ".ci",
)  # fmt: skip
_PATH = re.compile(rf"(?:(?:{'|'.join(map(re.escape, _FOLDERS))})/)?[\w./*-]+")
_FILE_TYPES = (".py", ".sql", ".md", ".toml", ".yaml", ".proto", ".lark")
_METHOD = re.compile(r"\b([A-Z]\w*Service)[./]([A-Z]\w+)\b")
_VARIABLE = re.compile(
    r"\b(?:PENCHANT|DATABASE|REDIS|CACHE|DB|QUERY|AUTO_RUN|VALIDATE)_[A-Z][A-Z_]*\b"
)
_COMMAND = re.compile(r"^(?:env -i )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?penchant (?=[a-z-])(.+)$")
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")

documents = pytest.mark.parametrize(
    "document", reading.DOCUMENTS, ids=lambda path: str(path.relative_to(reading.ROOT))
)


def _reasons() -> set[str]:
    names = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    return names - {"UNSPECIFIED"}


def _methods() -> set[tuple[str, str]]:
    files = (
        admin_pb2,
        api_key_pb2,
        demand_pb2,
        embedding_pb2,
        entity_pb2,
        interaction_pb2,
        model_pb2,
        privacy_pb2,
        recommendation_pb2,
    )
    return {
        (service.name, method.name)
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def _code(document: Path) -> Iterator[str]:
    yield from reading.spans(document)
    yield from reading.shell_lines(document)


def _named_commands(document: Path) -> Iterator[list[str]]:
    for text in _code(document):
        found = _COMMAND.match(text)
        if found:
            yield shlex.split(found[1])


def _find(words: list[str]) -> list[tuple[str, Any]]:
    """The commands that words such as `migrate run|info` name; fails where one does not exist."""
    known = reading.commands()
    groups = {name.split()[0] for name in known if " " in name}
    if words[0] not in groups:
        names = words[0].split("|")
    elif len(words) == 1:
        names = [name for name in known if name.startswith(f"{words[0]} ")]
    else:
        names = [f"{words[0]} {inner}" for inner in words[1].split("|")]
    return [(name, known[name]) for name in names]


@documents
def test_methods_named_exist(document: Path) -> None:
    named = set(_METHOD.findall(document.read_text()))
    assert named - _methods() == set()


def test_methods_are_all_named() -> None:
    named = set(_METHOD.findall(reading.all_text()))
    assert _methods() - named == set()


@documents
def test_variables_named_exist(document: Path) -> None:
    named = set(_VARIABLE.findall(document.read_text()))
    assert named - set(reading.variables()) - reading.alias_names() - _reasons() == set()


def test_variables_are_all_named() -> None:
    named = set(_VARIABLE.findall(reading.all_text()))
    assert (set(reading.variables()) | reading.alias_names()) - named == set()


def test_settings_table_equals_the_code() -> None:
    assert reading.marked(reading.README, "settings") == reading.settings_table()


@documents
def test_commands_named_exist(document: Path) -> None:
    for words in _named_commands(document):
        for _, command in _find(words):
            options = {name for parameter in command.params for name in parameter.opts}
            given = {word.split("=")[0] for word in words if word.startswith("--")}
            assert given - options == set(), words


def test_commands_are_all_named() -> None:
    named = {
        name
        for document in reading.DOCUMENTS
        for words in _named_commands(document)
        for name, _ in _find(words)
    }
    assert set(reading.commands()) - named == set()


@documents
def test_make_targets_named_exist(document: Path) -> None:
    named = {text.split()[1] for text in _code(document) if re.match(r"make [a-z]", text)}
    assert named - reading.targets() == set()


def test_make_targets_are_all_named() -> None:
    named = set(re.findall(r"`make ([a-z-]+)", reading.all_text()))
    assert reading.targets() - named - {"proto-check"} == set()


@documents
def test_files_named_exist(document: Path) -> None:
    for span in reading.spans(document):
        text, _, name = span.partition(":")
        if not _PATH.fullmatch(text) or not (
            text.split("/")[0] in _FOLDERS or text.endswith(_FILE_TYPES)
        ):
            continue
        found = [path for path in reading.ROOT.glob(text) if path.exists()]
        assert found, f"{span} does not exist"
        for part in filter(None, name.split(".")):
            assert re.search(rf"\b{re.escape(part)}\b", found[0].read_text()), span


@documents
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text()):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, anchor


def test_error_table_equals_the_code() -> None:
    """Every exception with the status that it has, and every reason in one of the rows."""
    rows = [reading.cells(row) for row in reading.marked(API, "errors")[2:]]
    statuses = {name.strip("`"): status.strip("`") for name, status, _ in rows}
    reasons = {name.strip("`"): set(re.findall(r"`(\w+)`", cell)) for name, _, cell in rows}
    assert statuses == {kind.__name__: code.name for kind, code in STATUS_CODES.items()}
    assert set().union(*reasons.values()) == _reasons()
    for name, named in reasons.items():
        assert getattr(exceptions, name).reason in named, name


def test_every_reason_has_a_meaning() -> None:
    rows = [reading.cells(row) for row in reading.marked(API, "reasons")[2:]]
    assert [row[0].strip("`") for row in rows] == sorted(_reasons())


def test_algorithms_are_all_named() -> None:
    text = (reading.ROOT / "docs" / "models.md").read_text()
    assert [name for name in (*BY_NAME, "auto") if f"`{name}`" not in text] == []


def test_candidate_sources_are_all_named() -> None:
    text = API.read_text()
    assert [source.name for source in SOURCES if f"`{source.name}`" not in text] == []


def test_metrics_are_all_named() -> None:
    registered = {family.name for family in Metrics().registry.collect()}
    for line in (reading.ROOT / "jobs" / "registry.py").read_text().splitlines():
        registered |= set(re.findall(r'"(penchant_\w+)"', line))
    named = {
        name.removesuffix("_total")
        for name in re.findall(r"`(penchant_\w+)`", OPERATIONS.read_text())
    }
    assert {name.removesuffix("_total") for name in registered} - named == set()


def test_jobs_are_all_named_with_their_interval() -> None:
    from jobs.registry import JOBS

    rows = {
        row[0].strip("`"): row[1].strip("`")
        for row in map(reading.cells, reading.marked(OPERATIONS, "jobs")[2:])
    }
    assert rows == {job.name: f"PENCHANT_{job.interval.upper()}" for job in JOBS}
    assert all(job.interval in Settings.model_fields for job in JOBS)


def test_decisions_are_all_listed() -> None:
    folder = reading.ROOT / "docs" / "adr"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))
