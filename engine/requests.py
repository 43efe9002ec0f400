"""What a caller asks the recommender for, checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.filters.compiler import CompiledFilter, compile_filter
from engine.identifiers import check_id
from storage.entities import EntityKey
from storage.exceptions import InvalidArgument

DEFAULT_PAGE_SIZE = 20
MAX_CONTEXT = 50
MAX_EXCLUDED = 1000
MAX_BOOSTS = 20
MAX_BOOST_FACTOR = 100.0
PAGE_TOKEN_TTL_SECS = 600.0


@dataclass(frozen=True, slots=True)
class Boost:
    """A compiled filter, and what it multiplies the score of matching entities by."""

    filter: CompiledFilter
    factor: float


class RecommendQuery(NamedTuple):  # one a call: a frozen dataclass takes four times as long
    """A Recommend request.

    Attributes:
        user_id: stored user id ("session:" and the id for a session), "" for nobody.
        page_size: 1 to 1,000.
        model_version: (model name, version or "latest") to answer with; None: what serves.
        record: keep what the answer is made from, whatever the sampling.
        asked: the request as its caller sent it; opaque here, kept with logged answers.
        request_hash: 8 bytes that stand for the whole request without its page token.
    """

    user_id: str = ""
    context: tuple[EntityKey, ...] = ()
    entity_type: str = ""
    page_size: int = DEFAULT_PAGE_SIZE
    page_token: str = ""
    filter: CompiledFilter | None = None
    exclude: tuple[EntityKey, ...] = ()
    include_seen: bool = False
    boosts: tuple[Boost, ...] = ()
    diversity: float = 0.0
    min_score: float | None = None
    explain: bool = False
    model_version: tuple[str, str] | None = None
    record: bool = False
    asked: bytes = b""
    request_hash: bytes = b""


def check_keys(keys: Sequence[EntityKey], maximum: int, field: str) -> tuple[EntityKey, ...]:
    """A list of entity names of limited length, each checked."""
    if len(keys) > maximum:
        raise InvalidArgument.field(field, f"has {len(keys)} entries; at most {maximum}")
    for index, (entity_type, entity_id) in enumerate(keys):
        check_id(entity_type, f"{field}[{index}].entity_type")
        check_id(entity_id, f"{field}[{index}].entity_id")
    return tuple(keys)


def check_boosts(boosts: Sequence[tuple[str, float]]) -> tuple[Boost, ...]:
    """(filter, factor) pairs, each filter compiled and each factor within (0, 100]."""
    if len(boosts) > MAX_BOOSTS:
        raise InvalidArgument.field("boosts", f"has {len(boosts)} entries; at most {MAX_BOOSTS}")
    checked = []
    for index, (text, factor) in enumerate(boosts):
        try:
            compiled = compile_filter(text)
        except InvalidArgument as error:
            raise InvalidArgument(
                f"boosts[{index}].{error.message}",
                reason=error.reason,
                violations=InvalidArgument.field(
                    f"boosts[{index}].filter", error.message
                ).violations,
                metadata=error.metadata,
            ) from error
        if compiled is None:
            raise InvalidArgument.field(f"boosts[{index}].filter", "is required")
        if not 0 < factor <= MAX_BOOST_FACTOR:
            raise InvalidArgument.field(
                f"boosts[{index}].factor", f"must be above 0 and at most {MAX_BOOST_FACTOR:.0f}"
            )
        checked.append(Boost(compiled, factor))
    return tuple(checked)


def check_share(value: float, field: str) -> float:
    """A number from 0 to 1."""
    if not 0.0 <= value <= 1.0:
        raise InvalidArgument.field(field, "must lie within 0 and 1")
    return value


def check_finite(value: float, field: str) -> float:
    """A finite number."""
    if not math.isfinite(value):
        raise InvalidArgument.field(field, "must be finite")
    return value
