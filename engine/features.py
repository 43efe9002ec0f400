"""Feature vectors from attributes, by hashing.

Tokens are hashed into `dimension` signed buckets (Weinberger, Dasgupta, Langford, Smola, Attenberg:
"Feature Hashing for Large Scale Multitask Learning", ICML 2009). What a value becomes:

- text of one to three words, alone or in a list: a category, one token `field=value`;
- longer text, and a top-level `title` or `name` of any length: words and pairs of words, each
  1 + ln(count);
- number: buckets of the signed logarithm at three widths, shared between the two nearest, so that
  1994 is like 1995, less like 1974 and hardly like 5;
- boolean: one token. Objects go in by dotted path, lists by element, fields that begin with `_`
  and nulls not at all. Case is ignored.

Each field's tokens of one kind are brought to length one and then to the kind's weight, so that a
long description does not drown a genre; the sum has length one. The outcome is stable: stored
vectors are compared with new ones, so a change here needs all of them made anew.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.identifiers import Json
from storage.exceptions import InvalidArgument

HALFVEC_MAX = 65504.0
"""Largest finite number of pgvector's halfvec (IEEE 754 half precision)."""

CATEGORY_WEIGHT = 1.0
TEXT_WEIGHT = 0.6
NUMBER_WEIGHT = 0.5
TITLE_WEIGHT = 0.3  # titles of unlike things share words; those of like things seldom do
BOOLEAN_WEIGHT = 0.3
IDENTIFIER_WEIGHT = 0.2  # an ISBN or a URL says what a thing is, not what it is like

_TITLES = frozenset({"title", "name"})
_CATEGORY_WORDS = 3
_IDENTIFIER_LENGTH = 8
_NUMBER_WIDTHS = (1.0, 0.1, 0.01)
_WORD = re.compile(r"\w+")
_DIGIT_OR_PUNCTUATION = re.compile(r"[\d/:@._]")

_Groups = dict[tuple[str, float], list[tuple[str, float]]]


def extract_features(attributes: Mapping[str, Json], dimension: int) -> NDArray[np.float32] | None:
    """The feature vector (dimension,) of attributes, of length one; None when they say nothing."""
    entries: list[tuple[int, float]] = []
    for (_, weight), tokens in _grouped(attributes).items():
        length = math.sqrt(math.fsum(value * value for _, value in tokens))
        for token, value in tokens:
            hashed = _hash(token)
            signed = weight if hashed & 1 else -weight
            entries.append(((hashed >> 1) % dimension, signed * value / length))
    if not entries:
        return None
    # In one order, so that rounding does not depend on the order of the fields.
    entries.sort()
    buckets, values = zip(*entries, strict=True)
    vector = np.bincount(buckets, weights=values, minlength=dimension)
    norm = math.sqrt(float(vector @ vector))
    if norm < 1e-9:  # all tokens met in few buckets and cancelled out
        return None
    return (vector / norm).astype(np.float32)


def validate_vector(
    values: Sequence[float] | NDArray[np.floating], dimension: int, field: str
) -> NDArray[np.float32]:
    """A caller's vector (dimension,) that halfvec can hold and a cosine can use.

    Raises:
        InvalidArgument: another dimension, NaN or infinity, beyond +-65504, or all zero (also when
            only half precision makes it so).
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (dimension,):
        raise InvalidArgument.field(
            field, f"has dimension {vector.size}; the tenant's is {dimension}"
        )
    # max() carries NaN along, so one comparison finds it and infinity.
    largest = float(np.abs(vector).max())
    if not math.isfinite(largest):
        raise InvalidArgument.field(field, "holds NaN or infinity")
    if largest > HALFVEC_MAX:
        raise InvalidArgument.field(field, f"holds a number beyond {HALFVEC_MAX:.0f}")
    if np.float16(largest) == 0:
        raise InvalidArgument.field(field, "is all zero in half precision")
    return vector.astype(np.float32)


def _grouped(attributes: Mapping[str, Json]) -> _Groups:
    """Tokens with their values, by field and weight."""
    groups: _Groups = {}
    texts: dict[tuple[str, float], Counter[str]] = {}
    for path, value in _leaves(attributes):
        if isinstance(value, bool):
            groups.setdefault((path, BOOLEAN_WEIGHT), []).append((f"b\0{path}\0{value:d}", 1.0))
        elif isinstance(value, str):
            words = _WORD.findall(value.casefold())
            if path.casefold() in _TITLES:
                _count_words(texts.setdefault((path, TITLE_WEIGHT), Counter()), words)
            elif len(value.split()) > _CATEGORY_WORDS:
                _count_words(texts.setdefault((path, TEXT_WEIGHT), Counter()), words)
            elif words:
                category = " ".join(value.casefold().split())
                groups.setdefault((path, _category_weight(category)), []).append(
                    (f"c\0{path}\0{category}", 1.0)
                )
        else:
            groups.setdefault((path, NUMBER_WEIGHT), []).extend(_number_tokens(path, value))
    for (path, weight), counts in texts.items():
        if counts:
            groups[path, weight] = [
                (f"t\0{path}\0{gram}", 1.0 + math.log(count)) for gram, count in counts.items()
            ]
    return groups


def _leaves(attributes: Mapping[str, Json]) -> Iterator[tuple[str, bool | int | float | str]]:
    # A stack of its own: callers may hand in anything that JSON can nest.
    stack: list[tuple[str, Json]] = [("", attributes)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, str | bool | int | float):
            yield path, value
        elif isinstance(value, Mapping):
            prefix = f"{path}." if path else ""
            stack.extend((prefix + name, child) for name, child in value.items() if name[:1] != "_")
        elif value is not None:
            stack.extend((path, child) for child in value)


def _category_weight(category: str) -> float:
    is_identifier = (
        len(category) >= _IDENTIFIER_LENGTH
        and " " not in category
        and _DIGIT_OR_PUNCTUATION.search(category) is not None
    )
    return IDENTIFIER_WEIGHT if is_identifier else CATEGORY_WEIGHT


def _count_words(counts: Counter[str], words: list[str]) -> None:
    counts.update(words)
    counts.update(f"{first} {second}" for first, second in pairwise(words))


def _number_tokens(path: str, value: float) -> Iterator[tuple[str, float]]:
    try:
        size = math.log1p(abs(value))
    except OverflowError:  # an integer beyond a double
        return
    if not math.isfinite(size):
        return
    signed = math.copysign(size, value)
    for width in _NUMBER_WIDTHS:
        place = signed / width
        below = math.floor(place)
        above_part = place - below
        yield f"n\0{path}\0{width}\0{below}", 1.0 - above_part
        yield f"n\0{path}\0{width}\0{below + 1}", above_part


@lru_cache(maxsize=65536)
def _hash(token: str) -> int:
    # Half of a surrogate pair cannot come in over the wire, yet it must not raise here.
    digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
