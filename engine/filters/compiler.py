"""Syntax tree to a PostgreSQL jsonpath predicate.

The document that the predicate is matched against, with
`jsonb_path_match(document, path::jsonpath, variables::jsonb, silent => true)`:

    {"attributes": {...}, "entity_id": text, "entity_type": text,
     "created_at": seconds since 1970 as a number, "updated_at": the same}

Meaning, where AIP-160 leaves a choice:

- A bare name is an attribute, except the four fields beside `attributes`; an attribute of such a
  name is reached as `attributes.entity_id`.
- Every comparison is true or false: a field that is absent, or of another type than the literal,
  makes it false. `a != x` is `NOT a = x`, hence true for an absent field; `a:*` asks for presence.
- Lists (jsonpath's lax mode): a comparison is true when it is for any element, and a path
  through a list of objects goes into each.
- `=` on text is exact; an unescaped `*` at an end of the literal leaves that end open.
- `:` on text is "contains", whatever the case (by the database's locale); on a list "has this
  element"; on an object "has this key"; a pattern is matched whatever the case.
- `<` and its kin compare number with number and text with text (by code point); `created_at` and
  `updated_at` take RFC 3339 timestamps (a bare date is its midnight in UTC).
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from engine.filters.ast import (
    And,
    Comparison,
    Node,
    Not,
    Or,
    Present,
    Text,
    comparisons,
    filter_error,
)
from engine.filters.parser import parse_filter

MAX_COMPARISONS = 64

_TEXT_FIELDS = frozenset({"entity_id", "entity_type"})
_TIME_FIELDS = frozenset({"created_at", "updated_at"})
_ORDERINGS = frozenset({"<", "<=", ">", ">="})
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ASCII_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """A predicate as parameters of a statement: `path` is a jsonpath, `variables` its JSON."""

    path: str
    variables: str


@lru_cache(maxsize=1024)
def compile_filter(text: str) -> CompiledFilter | None:
    """Compile a filter; None when it is blank.

    Raises:
        InvalidArgument: INVALID_FILTER with the offset of what is wrong, in the message and as
            `position` in the metadata.
    """
    node = parse_filter(text)
    if node is None:
        return None
    for number, comparison in enumerate(comparisons(node)):
        if number == MAX_COMPARISONS:
            raise filter_error(
                f"more than {MAX_COMPARISONS} comparisons", comparison.member_position
            )
    compiler = _Compiler()
    path = compiler.node(node)
    return CompiledFilter(path, json.dumps(compiler.variables, ensure_ascii=False))


@dataclass(slots=True)
class _Compiler:
    variables: dict[str, str | int | float | bool | None] = field(default_factory=dict)

    def node(self, node: Node) -> str:
        match node:
            case Comparison():
                return self.comparison(node)
            case Not(operand):
                return f"!({self.node(operand)})"
            case And(operands):
                return "(" + " && ".join(self.node(operand) for operand in operands) + ")"
            case Or(operands):
                return "(" + " || ".join(self.node(operand) for operand in operands) + ")"

    def comparison(self, comparison: Comparison) -> str:
        path = _path(comparison)
        literal, comparator = comparison.literal, comparison.comparator
        if comparator == "!=":
            return f"!({self.equals(path, comparison)})"
        if comparator in _ORDERINGS:
            return self.order(path, comparison)
        if comparator == ":" and isinstance(literal, Text) and not literal.is_pattern:
            return self.contains(path, literal.value, comparison)
        return self.equals(path, comparison)

    def order(self, path: str, comparison: Comparison) -> str:
        literal = self.operand(comparison)
        if isinstance(literal, Present) or (isinstance(literal, Text) and literal.is_pattern):
            raise filter_error("a wildcard cannot be ordered", comparison.literal_position)
        if literal is None or isinstance(literal, bool):
            raise filter_error(
                f"{comparison.comparator} compares numbers or text, not true, false or null",
                comparison.literal_position,
            )
        value = literal.value if isinstance(literal, Text) else literal
        return f"exists({path} ? (@ {comparison.comparator} {self.variable(value)}))"

    def equals(self, path: str, comparison: Comparison) -> str:
        literal = self.operand(comparison)
        if isinstance(literal, Present):
            return f"exists({path} ? (@ != null))"
        if not isinstance(literal, Text):
            return f"exists({path} ? (@ == {self.variable(literal)}))"
        if not literal.is_pattern:
            return f"exists({path} ? (@ == {self.variable(literal.value)}))"
        start, end = ("" if literal.open_start else "^"), ("" if literal.open_end else "$")
        pattern = _quote(start + _ASCII_PUNCTUATION.sub(r"\\\1", literal.value) + end)
        flag = ' flag "i"' if comparison.comparator == ":" else ""
        return f"exists({path} ? (@ like_regex {pattern}{flag}))"

    def contains(self, path: str, value: str, comparison: Comparison) -> str:
        self.operand(comparison)
        # Lax mode has unwrapped a list before its filter sees it: only type() can tell.
        return (
            f"(exists({path} ? (@ == {self.variable(value)})) || exists({path}.{_quote(value)})"
            f' || (!({path}.type() == "array")'
            f' && exists({path} ? (@ like_regex {_quote(value)} flag "iq"))))'
        )

    def operand(self, comparison: Comparison) -> Text | Present | bool | int | float | None:
        """The literal in the type of its field."""
        name, literal = comparison.member[0], comparison.literal
        if isinstance(literal, Present):
            return literal
        if name in _TIME_FIELDS:
            if comparison.comparator == ":":
                raise filter_error(f"{name} takes : only as {name}:*", comparison.literal_position)
            return _epoch_seconds(comparison)
        if name in _TEXT_FIELDS and not isinstance(literal, Text):
            raise filter_error(
                f"{name} is text: write the value in quotes", comparison.literal_position
            )
        return literal

    def variable(self, value: str | float | bool | None) -> str:
        name = f"v{len(self.variables)}"
        self.variables[name] = value
        return f"${name}"


def _quote(text: str) -> str:
    # JSON's escapes are a subset of jsonpath's.
    return json.dumps(text, ensure_ascii=False)


def _path(comparison: Comparison) -> str:
    first, *rest = comparison.member
    if first in _TEXT_FIELDS or first in _TIME_FIELDS:
        if rest:
            raise filter_error(
                f"{first} has no fields (an attribute of that name is attributes.{first})",
                comparison.member_position,
            )
        return f"$.{_quote(first)}"
    if first == "attributes":
        if not rest:
            raise filter_error("a field of attributes is missing", comparison.member_position)
    else:
        rest = [first, *rest]
    return "$." + ".".join(map(_quote, ["attributes", *rest]))


def _epoch_seconds(comparison: Comparison) -> float:
    literal = comparison.literal
    if isinstance(literal, Text) and not literal.is_pattern:
        text = literal.value.upper()
        if _DATE.fullmatch(text):
            text += "T00:00:00Z"
        if _TIMESTAMP.fullmatch(text):
            try:
                return (datetime.fromisoformat(text) - _EPOCH).total_seconds()
            except (ValueError, OverflowError):
                pass  # a day or an hour that does not exist: the error below says so
    raise filter_error(
        f"{comparison.member[0]} takes an RFC 3339 timestamp such as '2024-05-01T12:00:00Z'",
        comparison.literal_position,
    )
