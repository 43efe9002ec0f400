"""Filter text to syntax tree."""

import math
import re
from importlib import resources

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.visitors import v_args

from engine.filters.ast import And, Comparison, Literal, Node, Not, Or, Present, Text, filter_error

MAX_CHARACTERS = 4096
MAX_NESTING = 32

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,15}", re.ASCII)
_QUOTED_OR_PARENTHESIS = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[()]""", re.DOTALL)
_PIECE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)|(.)", re.DOTALL)
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'", "*": "*"}
_WORDS: dict[str, Literal] = {"true": True, "false": False, "null": None, "*": Present()}


def parse_filter(text: str) -> Node | None:
    """The tree of a filter; None when it is blank.

    Raises:
        InvalidArgument: INVALID_FILTER with the offset of the first thing that is wrong.
    """
    if len(text) > MAX_CHARACTERS:
        raise filter_error(f"longer than {MAX_CHARACTERS} characters", MAX_CHARACTERS)
    unstorable = _UNSTORABLE.search(text)
    if unstorable:
        raise filter_error("a character that text cannot hold", unstorable.start())
    if not text.strip():
        return None
    _check_nesting(text)
    try:
        node: Node = _PARSER.parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise filter_error(*_explain(error, text)) from None
    return node


def _check_nesting(text: str) -> None:
    # Before parsing: whatever walks the tree later may recurse without a thought.
    depth = 0
    for match in _QUOTED_OR_PARENTHESIS.finditer(text):
        if match[0] == "(":
            depth += 1
            if depth > MAX_NESTING:
                raise filter_error(f"parentheses nested deeper than {MAX_NESTING}", match.start())
        elif match[0] == ")":
            depth -= 1


def _explain(error: UnexpectedInput, text: str) -> tuple[str, int]:
    position = error.pos_in_stream or 0
    if isinstance(error, UnexpectedToken):
        return _explain_token(error, text)
    if isinstance(error, UnexpectedCharacters):
        if text[position] in "\"'":
            return "a quoted text without its end", position
        return f"unexpected {text[position]!r}", position
    return "the filter does not parse", position


def _explain_token(error: UnexpectedToken, text: str) -> tuple[str, int]:
    token = error.token
    # Lark gives the end of input the position of the last token.
    position = len(text) if token.type == "$END" else error.pos_in_stream or 0
    if "COMPARATOR" in (error.accepts or error.expected):
        if token.type == "_LPAR":
            return "functions are not supported: unexpected '('", position
        return (
            "a comparison such as = or : is missing (AND, OR and NOT are written in capitals)",
            position,
        )
    if token.type == "$END":
        return "the filter ends too early", position
    return f"unexpected {str(token)[:32]!r}", position


def _number(token: str, position: int) -> int | float:
    # Attributes arrive as JSON doubles, so a longer literal could equal none of them.
    if _INTEGER.fullmatch(token):
        return int(token)
    number = float(token)
    if not math.isfinite(number):
        raise filter_error("a number too large", position)
    return number


def _text(body: str, position: int) -> Text | Present:
    """The literal that a text between quotes (or a bare word) stands for."""
    characters: list[str] = []
    open_start = open_end = False
    for match in _PIECE.finditer(body):
        code, escape, plain = match.groups()
        if code is not None:
            characters.append(chr(int(code, 16)))
        elif escape is not None:
            if escape not in _ESCAPES:
                raise filter_error(f"unknown escape {match[0]!r}", position + match.start())
            characters.append(_ESCAPES[escape])
        elif plain == "*":
            at_start, at_end = match.start() == 0, match.end() == len(body)
            if not (at_start or at_end):
                raise filter_error(
                    r"a wildcard may only stand at either end (write \* for an asterisk)",
                    position + match.start(),
                )
            open_start, open_end = open_start or at_start, open_end or at_end
        else:
            characters.append(plain)
    try:
        # Two \u escapes of a surrogate pair are one character, as in JSON.
        value = "".join(characters).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise filter_error("half of a surrogate pair", position) from None
    if "\0" in value:
        raise filter_error("a NUL character", position)
    if not value and (open_start or open_end):
        return Present()
    return Text(value, open_start, open_end)


@v_args(inline=True)
class _TreeBuilder(Transformer[Token, Node]):
    """Runs inside the LALR parser, so that no intermediate tree is built or walked."""

    def start(self, expression: Node) -> Node:
        return expression

    def expression(self, *operands: Node) -> Node:
        return And(operands) if len(operands) > 1 else operands[0]

    def sequence(self, *operands: Node) -> Node:
        return And(operands) if len(operands) > 1 else operands[0]

    def factor(self, *operands: Node) -> Node:
        return Or(operands) if len(operands) > 1 else operands[0]

    def negation(self, operand: Node) -> Node:
        return Not(operand)

    def comparison(
        self,
        member: tuple[tuple[str, int], ...],
        comparator: Token,
        value: tuple[Literal, int],
    ) -> Node:
        return Comparison(
            member=tuple(name for name, _ in member),
            comparator=str(comparator),
            literal=value[0],
            member_position=member[0][1],
            literal_position=value[1],
        )

    def member(self, *segments: tuple[str, int]) -> tuple[tuple[str, int], ...]:
        return segments

    def segment(self, token: Token) -> tuple[str, int]:
        position = token.start_pos or 0
        if token.type == "WORD":
            return str(token), position
        name = _text(token[1:-1], position + 1)
        if isinstance(name, Present) or name.is_pattern:
            raise filter_error("a field's name cannot be a wildcard", position)
        return name.value, position

    def value(self, token: Token) -> tuple[Literal, int]:
        position = token.start_pos or 0
        if token.type == "STRING":
            return _text(token[1:-1], position + 1), position
        if token in _WORDS:
            return _WORDS[token], position
        if _NUMBER.fullmatch(token):
            return _number(token, position), position
        return _text(token, position), position


_PARSER = Lark(
    resources.files("engine.filters").joinpath("grammar.lark").read_text("utf-8"),
    parser="lalr",
    lexer="contextual",
    transformer=_TreeBuilder(),
)
