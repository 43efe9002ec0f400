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
_TIME_FIELDS = ("created_at", "updated_at")
_FIELDS = ("entity_id", "entity_type", *_TIME_FIELDS)
_COMPARATORS = ("=", "!=", "<", "<=", ">", ">=", ":")
_NUMBERS = (
    *("1990", "-2.5e1", ".5", "1e308", "1e-320", "-0", "000000000000001"),
    "12345678901234567890",
)
_WORDS = ("true", "false", "null", "*", "sf", "b0*", "*x*", "'x*'")
_QUOTED = (
    *('"two words"', '"^(a+)+$"', '"\\\\E.\\*"', '"[[:alpha:]]"', '"\\u0001"'),
    *('"\\ud83d\\ude00"', '"\\n\\t"', '"ſßİ"', '""', "'b01'", "'book'"),
)
_TIMES = (
    *("2024-05-01T12:00:00Z", "'2024-05-01T12:00:00.5+02:00'", "2024-05-01", "9999-12-31"),
    "0001-01-02T00:00:00+23:59",
)
_NO_TIMES = ("2024-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")
_VALUES = (*_NUMBERS, *_WORDS, *_QUOTED, *_TIMES, *_NO_TIMES)
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
    """Mostly one that the compiler takes."""
    space = chance.choice(("", " ", "\n"))
    if chance.random() < 0.03:
        member, comparator = chance.choice(_MEMBERS + _FIELDS), chance.choice(_COMPARATORS)
        return f"{member}{space}{comparator}{space}{chance.choice(_VALUES)}"
    member = chance.choice(_FIELDS if chance.random() < 0.2 else _MEMBERS)
    comparator = chance.choice(_COMPARATORS)
    if member in _TIME_FIELDS:
        value = chance.choice(_TIMES)
        comparator = comparator.replace(":", "=")
    elif member in _FIELDS:
        value = chance.choice(_QUOTED)
    elif comparator in {"<", "<=", ">", ">="}:
        value = chance.choice(_NUMBERS + _QUOTED)
    else:
        value = chance.choice(_NUMBERS + _QUOTED + _WORDS)
    return f"{member}{space}{comparator}{space}{value}"
