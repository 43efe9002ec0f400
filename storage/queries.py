"""Named SQL: a statement stands in a .sql file as `-- name: x`, a line of description, the text.

Some things are filled in when files are read or a tenant's row is known, never from what a caller
sends: fragments (`{eligible}`, `{entity}`, `{seen}`, `{sources}`, `{guard}` and others),
`{dimension}`, an integer of the tenant's row, which PostgreSQL only takes as a type modifier, and
`{placement}`, another one, in names of indexes where no function can help (`index_rebuild`) and
where a plan is kept, which is one for a single partition only if the number stands there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

_SQL_DIR = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_PARAMETER = re.compile(r"\$(\d+)")


def _read(path: Path) -> dict[str, str]:
    parts = _NAME.split(path.read_text(encoding="utf-8"))
    statements: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = body.strip().splitlines()
        if not lines or not lines[0].startswith("-- "):
            raise ValueError(f"{path.name}: {name} has no line of description")
        text = "\n".join(line for line in lines if not line.startswith("--"))
        statements[name] = text.rstrip().rstrip(";")
    return statements


@cache
def load(aggregate: str) -> Mapping[str, str]:
    """The statements of `sql/{aggregate}.sql` by name."""
    return _read(_SQL_DIR / f"{aggregate}.sql")


@cache
def candidate_sources() -> Mapping[str, str]:
    """The candidate sources' statements by source name: one file each under sql/candidates."""
    found: dict[str, str] = {}
    for path in sorted((_SQL_DIR / "candidates").glob("*.sql")):
        if not path.name.startswith("_") and path.stem != "listed":
            found |= _read(path)
    return found


@cache
def candidates(
    sources: frozenset[str],
    dimension: int,
    *,
    placement: int | None = None,
    related: bool = False,
    seen: bool = True,
    wanted: bool = False,
) -> str:
    """The statement that asks the named sources at once, for vectors of a dimension.

    Args:
        placement: the statement is of this placement alone, for answers without a filter and for
            all types, and its plan may be kept; None: of any, for any answer.
        related: item_to_item is given sums over neighbours instead of a history.
        seen: what a user has seen is looked up, and left out.
        wanted: entities that are named by number come with it.

    Raises:
        KeyError: no such source.
    """
    frame = _frame()
    texts = {**candidate_sources(), **({"item_to_item": frame["related"]} if related else {})}
    blocks = [texts[name] for name in sorted(sources)]
    if wanted:
        blocks.append(frame["wanted"])
    return _framed("frame", blocks, dimension, placement, seen=seen)


@cache
def nearest(sources: frozenset[str], dimension: int, placement: int) -> str:
    """The statement that asks sources which search vectors for numbers and scores alone.

    It is of one placement, without a filter and for all types; what a user has seen is known. Its
    parameters are those of `nearest_parameters`, in their order.

    Raises:
        KeyError: no such source.
    """
    text, used = _nearest(sources, dimension, placement)
    places = {number: place for place, number in enumerate(used, start=1)}
    return _PARAMETER.sub(lambda found: f"${places[int(found[1])]}", text)


def nearest_parameters(sources: frozenset[str], dimension: int, placement: int) -> Sequence[int]:
    """Which parameters of sql/candidates/_frame.sql the statement `nearest` has: each costs."""
    _, used = _nearest(sources, dimension, placement)
    return used


@cache
def _nearest(
    sources: frozenset[str], dimension: int, placement: int
) -> tuple[str, tuple[int, ...]]:
    blocks = [candidate_sources()[name] for name in sorted(sources)]
    text = _framed("nearest", blocks, dimension, placement, seen=False)
    return text, tuple(sorted({int(number) for number in _PARAMETER.findall(text)}))


def _framed(
    name: str, blocks: Sequence[str], dimension: int, placement: int | None, *, seen: bool
) -> str:
    frame = _frame()
    text = frame[name].replace("{sources}", "\n    UNION ALL\n    ".join(blocks))
    text = _filled(text, {name: frame[name] for name in ("arguments", "blocked", "guard")})
    text = text.replace("{seen}", frame["seen"] if seen else "")
    text = text.replace("{eligible}", frame["eligible" if placement is None else "plain"])
    text = _filled(text, {name: frame[name] for name in ("eligible_plain", "entity")})
    return _of_placement(text, placement).replace("{dimension}", str(int(dimension)))


@cache
def _frame() -> Mapping[str, str]:
    return _read(_SQL_DIR / "candidates" / "_frame.sql")


@cache
def situations(placement: int) -> Mapping[str, str]:
    """The statements of `sql/situations.sql` for one placement."""
    parts = _read(_SQL_DIR / "situations.sql")
    whole = {name: parts.pop(name) for name in ("user_situation", "recalled_situation")}
    parts["guard"] = _frame()["guard"]
    return {name: _of_placement(_filled(text, parts), placement) for name, text in whole.items()}


def _filled(text: str, fragments: Mapping[str, str]) -> str:
    for name, fragment in fragments.items():
        text = text.replace(f"{{{name}}}", fragment)
    return text


@cache
def remembered_lists(placement: int) -> str:
    """The lists that all users of a tenant of one placement share, whole."""
    lists = _read(_SQL_DIR / "candidates" / "_lists.sql")
    return _of_placement(lists["remembered_lists"], placement)


def _of_placement(text: str, placement: int | None) -> str:
    return text.replace("{placement}", "$3" if placement is None else str(int(placement)))


@cache
def index_rebuild(placement: int) -> Mapping[str, str]:
    """The statements of `sql/index_rebuild.sql` about the HNSW index of a placement."""
    return {
        name: text.replace("{placement}", str(int(placement)))
        for name, text in load("index_rebuild").items()
    }


def all_statements(dimension: int = 512) -> Iterable[tuple[str, str]]:
    """Every statement that the program can send, as (file.name, text); a test prepares them all."""
    for path in sorted(_SQL_DIR.glob("*.sql")):
        shaped = {"index_rebuild": index_rebuild, "situations": situations}.get(path.stem)
        for name, text in (_read(path) if shaped is None else shaped(0)).items():
            yield f"{path.stem}.{name}", text
    yield from ((f"listed.{name}", text) for name, text in listed().items())
    yield "candidates.all", candidates(frozenset(candidate_sources()), dimension)
    yield "candidates.related", candidates(frozenset({"item_to_item"}), dimension, related=True)
    yield "candidates.unseen", candidates(frozenset({"content"}), dimension, seen=False)
    for name in candidate_sources():
        yield f"candidates.{name}", candidates(frozenset({name}), dimension)
        kept = candidates(frozenset({name}), dimension, placement=0, related=True, wanted=True)
        yield f"candidates.{name} kept", kept
    yield "candidates.wanted", candidates(frozenset(), dimension, placement=0, wanted=True)
    yield "candidates.nearest", nearest(frozenset({"content", "context"}), dimension, 0)
    yield "candidates.lists", remembered_lists(0)


@cache
def listed() -> Mapping[str, str]:
    """The statements about a given list of entities (Rerank, later pages)."""
    return _read(_SQL_DIR / "candidates" / "listed.sql")
