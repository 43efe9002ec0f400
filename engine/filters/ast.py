"""The syntax tree of a filter."""

from collections.abc import Iterator
from dataclasses import dataclass

from storage.exceptions import FieldViolation, InvalidArgument


@dataclass(frozen=True, slots=True)
class Text:
    """A text literal; an unescaped `*` at either end leaves that end open."""

    value: str
    open_start: bool = False
    open_end: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether the literal is a wildcard pattern."""
        return self.open_start or self.open_end


@dataclass(frozen=True, slots=True)
class Present:
    """The literal `*`: any value that is not null."""


Literal = Text | Present | bool | int | float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`member comparator literal`; the positions are character offsets of the two sides."""

    member: tuple[str, ...]
    comparator: str
    literal: Literal
    member_position: int = 0
    literal_position: int = 0


@dataclass(frozen=True, slots=True)
class Not:
    """True when the operand is false."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class And:
    """True when every operand is."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True when some operand is."""

    operands: tuple["Node", ...]


Node = Comparison | Not | And | Or


def comparisons(node: Node) -> Iterator[Comparison]:
    """The comparisons of a tree, left to right."""
    match node:
        case Comparison():
            yield node
        case Not(operand):
            yield from comparisons(operand)
        case And(operands) | Or(operands):
            for operand in operands:
                yield from comparisons(operand)


def filter_error(description: str, position: int) -> InvalidArgument:
    """INVALID_FILTER at a 0-based character offset, which also stands in the metadata."""
    sentence = f"{description} at position {position}"
    return InvalidArgument(
        f"filter: {sentence}",
        reason="INVALID_FILTER",
        violations=[FieldViolation("filter", sentence)],
        metadata={"position": str(position)},
    )
