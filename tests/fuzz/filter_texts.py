"""Texts of filters, as engine/filters/grammar.lark makes them, and such as it nearly makes."""

import random

_MEMBERS = (
    "year",
    "genres",
    "title",
    "sold",
    "missing",
    "author.name",
    "attributes.year",
    '"my field"',
    '"q\\""',
    "'a\\u00e9'",
    "电影",
    "release-year",
    "a.b.c.d",
    '""',
)
_FIELDS = ("entity_id", "entity_type", "created_at", "updated_at")
_COMPARATORS = ("=", "!=", "<", "<=", ">", ">=", ":")
_VALUES = (
    "1990",
    "-2.5e1",
    ".5",
    "1e308",
    "1e-320",
    "-0",
    "000000000000001",
    "12345678901234567890",
    "true",
    "false",
    "null",
    "*",
    "sf",
    "b0*",
    "*x*",
    '"two words"',
    "'x*'",
    '"^(a+)+$"',
    '"\\\\E.*"',
    '"[[:alpha:]]"',
    '"\\u0001"',
    '"\\ud83d\\ude00"',
    '"\\n\\t"',
    '"ſßİ"',
    '""',
    "2024-05-01T12:00:00Z",
    "'2024-05-01T12:00:00.5+02:00'",
    "2024-05-01",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59",
    "2024-02-30T00:00:00Z",
)
_PIECES = (*_COMPARATORS, *_MEMBERS, *_VALUES, "AND", "OR", "NOT", "-", "(", ")", ",", "\\", '"')
_RAW = "abcXYZ019 _-.*\\\"'()=<>!:,^$?+|{}[]/%&\n\t\0é好😀\u0301\u2028\ufffe"


def filter_text(chance: random.Random, *, wild: bool) -> str:
    """A filter; a wild one is long, deep, or none."""
    if not wild:
        return _expression(chance, 2)
    match chance.randrange(6):
        case 0:
            return "".join(chance.choices(_RAW, k=chance.choice((1, 10, 200))))
        case 1:
            return " ".join(chance.choices(_PIECES, k=chance.randrange(1, 30)))
        case 2:
            levels = chance.choice((5, 31, 32, 33, 1000))
            return "(" * levels + _comparison(chance) + ")" * levels
        case 3:
            return " OR ".join(_comparison(chance) for _ in range(chance.choice((40, 64, 65, 150))))
        case 4:
            return f'{chance.choice(_MEMBERS)} : "{"a." * chance.choice((10, 1000, 3000))}"'
    text = _expression(chance, 3)
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(_RAW) + text[at + 1 :]


def _expression(chance: random.Random, depth: int) -> str:
    return " AND ".join(
        " ".join(_factor(chance, depth) for _ in range(chance.choice((1, 1, 2))))
        for _ in range(chance.choice((1, 1, 2)))
    )


def _factor(chance: random.Random, depth: int) -> str:
    return " OR ".join(_term(chance, depth) for _ in range(chance.choice((1, 1, 2, 3))))


def _term(chance: random.Random, depth: int) -> str:
    negation = chance.choice(("", "", "NOT ", "-"))
    if depth and chance.random() < 0.3:
        return f"{negation}({_expression(chance, depth - 1)})"
    return negation + _comparison(chance)


def _comparison(chance: random.Random) -> str:
    member = chance.choice(_FIELDS if chance.random() < 0.2 else _MEMBERS)
    space = chance.choice(("", " ", "\n"))
    return f"{member}{space}{chance.choice(_COMPARATORS)}{space}{chance.choice(_VALUES)}"
