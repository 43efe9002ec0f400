"""A catalogue and its users, made up and the same at every run: the published generator.

An entity belongs to one of 100 groups. Its vector is the group's centre and a longer step within a
space of 16 dimensions: groups overlap, and the vectors spread over about as many dimensions as
those of texts and pictures do. A catalogue is the beginning of every larger one. A user knows some
entities of three groups, all of them among the first 10,000: the same ones whatever the size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

ENTITY_TYPE = "item"
KNOWN = 10_000
"""Users know only entities below this number."""

_GROUPS = 100
_SPREAD = 16
_STEP = 1.5
_BLOCK = 10_000
_SEED = 6


@dataclass(frozen=True, slots=True)
class Block:
    """Some entities in a row.

    Attributes:
        names: (n,), by which they are called.
        attributes: (n,), JSON.
        vectors: float16 (n, dimension), of length 1 but for rounding.
    """

    names: list[str]
    attributes: list[bytes]
    vectors: NDArray[np.float16]


def entities(count: int, dimension: int) -> Iterator[Block]:
    """The first so many entities."""
    draw = np.random.default_rng((_SEED, 0))
    centres = _unit(draw.normal(size=(_GROUPS, dimension)))
    space = _unit(draw.normal(size=(_SPREAD, dimension)))
    for start in range(0, count, _BLOCK):
        draw = np.random.default_rng((_SEED, 1, start))
        steps = draw.normal(size=(_BLOCK, _SPREAD)) / np.sqrt(_SPREAD)
        prices = draw.integers(1, 200, _BLOCK)
        numbers = np.arange(start, min(start + _BLOCK, count))
        size = len(numbers)
        vectors = _unit(centres[numbers % _GROUPS] + _STEP * steps[:size] @ space)
        yield Block(
            [name(number) for number in numbers.tolist()],
            [
                orjson.dumps(
                    {
                        "title": f"Item number {number}",
                        "category": f"group-{number % _GROUPS}",
                        "price": price,
                    }
                )
                for number, price in zip(numbers.tolist(), prices[:size].tolist(), strict=True)
            ],
            vectors.astype(np.float16),
        )


def name(number: int) -> str:
    """An entity's name."""
    return f"item-{number:07}"


def known_names(size: int) -> list[str]:
    """The entities of a catalogue that users know."""
    return [name(number) for number in range(min(size, KNOWN))]


@dataclass(frozen=True, slots=True)
class Taste:
    """What users did: user `users[n]` with entity `items[n]`, `age_secs[n]` seconds ago."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    age_secs: NDArray[np.int64]


def tastes(users: int, each: int, known: int = KNOWN) -> Taste:
    """What so many users did, each about so often; popular entities more often than others."""
    draw = np.random.default_rng((_SEED, 2))
    who = np.repeat(np.arange(users, dtype=np.int32), each)
    groups = draw.integers(0, _GROUPS, (users, 3))[who, draw.integers(0, 3, len(who))]
    places = (draw.power(0.4, len(who)) * (known / _GROUPS)).astype(np.int64)
    pairs = np.unique(np.stack([who, (places * _GROUPS + groups) % known]), axis=1)
    age: NDArray[np.int64] = draw.integers(60, 20 * 86_400, (pairs.shape[1],))
    return Taste(pairs[0].astype(np.int32), pairs[1].astype(np.int32), age)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    made: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made
