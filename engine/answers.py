"""Answers: what the recommender gives back, and their compact form for caches and page tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True)
class Reason:
    """A source's share in a score, and the entities (type, id) that led to it."""

    source: str
    share: float
    because_of: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceScore:
    """What one source said: its own score, the score on the blend's scale, its weight."""

    source: str
    raw: float
    normalized: float
    weight: float


@dataclass(frozen=True, slots=True)
class Item:
    """A recommended entity; `attributes` is JSON text."""

    entity_no: int
    entity_type: str
    entity_id: str
    score: float
    reasons: tuple[Reason, ...]
    attributes: str = "{}"
    source_scores: tuple[SourceScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of recommendations.

    Attributes:
        rest: the items of later pages, without attributes.
        transaction_id: the snapshot that the answer was checked against.
        phase, interaction_count, candidate_counts, cached: for explain.
        degraded: what could not take part.
    """

    items: tuple[Item, ...]
    rest: tuple[Item, ...] = ()
    recommendation_id: str = ""
    transaction_id: int = 0
    phase: str = "unknown"
    interaction_count: int = 0
    candidate_counts: dict[str, int] = field(default_factory=dict)
    cached: bool = False
    degraded: tuple[str, ...] = ()


def pack_items(items: Sequence[Item]) -> list[Any]:
    """Items as plain lists, for msgpack."""
    return [
        [
            i.entity_no,
            i.entity_type,
            i.entity_id,
            i.score,
            [[r.source, r.share, r.because_of] for r in i.reasons],
            i.attributes,
            [[s.source, s.raw, s.normalized, s.weight] for s in i.source_scores],
        ]
        for i in items
    ]


def unpack_items(packed: Sequence[Any]) -> tuple[Item, ...]:
    """The items of `pack_items`.

    Raises:
        ValueError, TypeError: it is none.
    """
    return tuple(
        Item(
            int(number),
            str(entity_type),
            str(entity_id),
            float(score),
            tuple(
                Reason(str(source), float(share), tuple((str(t), str(i)) for t, i in because))
                for source, share, because in reasons
            ),
            str(attributes),
            tuple(SourceScore(str(s), float(r), float(n), float(w)) for s, r, n, w in scores),
        )
        for number, entity_type, entity_id, score, reasons, attributes, scores in packed
    )


def pack_answer(answer: Answer) -> bytes:
    """An answer as bytes, for the result cache."""
    packed: bytes = msgpack.packb(
        [
            pack_items(answer.items),
            pack_items(answer.rest),
            answer.recommendation_id,
            answer.phase,
            answer.interaction_count,
            answer.candidate_counts,
        ]
    )
    return packed


def unpack_answer(packed: bytes) -> Answer | None:
    """The answer of `pack_answer`; None when the bytes are none (another release's, damaged)."""
    try:
        items, rest, recommendation_id, phase, count, counts = msgpack.unpackb(packed)
        return Answer(
            items=unpack_items(items),
            rest=unpack_items(rest),
            recommendation_id=recommendation_id,
            phase=phase,
            interaction_count=count,
            candidate_counts=counts,
            cached=True,
        )
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


def without_details(items: Sequence[Item]) -> tuple[Item, ...]:
    """Items as a page token carries them: attributes are read again when the page is asked for."""
    return tuple(replace(item, attributes="{}") for item in items)
