"""Answers: what the recommender gives back, and their compact form for caches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from engine.item_columns import ItemColumns, pack_rest, unpack_rest
from engine.items import Item, Reason, SourceScore

__all__ = [
    "Answer",
    "Item",
    "ItemColumns",
    "Reason",
    "SourceScore",
    "pack_answer",
    "pack_rest",
    "unpack_answer",
    "unpack_rest",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of recommendations.

    Attributes:
        rest: the items of later pages as `pack_rest` makes them; b"" when there are none.
        transaction_id: the snapshot that the answer was checked against.
        phase, interaction_count, candidate_counts, cached: for explain.
        degraded: what could not take part.
        model_versions: name@version of the trained models that took part.
    """

    items: tuple[Item, ...]
    rest: bytes = b""
    recommendation_id: str = ""
    transaction_id: int = 0
    phase: str = "unknown"
    interaction_count: int = 0
    candidate_counts: dict[str, int] = field(default_factory=dict)
    cached: bool = False
    degraded: tuple[str, ...] = ()
    model_versions: tuple[str, ...] = ()


def _pack_items(items: Sequence[Item]) -> list[list[Any]]:
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


def _unpack_items(packed: Sequence[Any]) -> tuple[Item, ...]:
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
            _pack_items(answer.items),
            answer.rest,
            answer.recommendation_id,
            answer.phase,
            answer.interaction_count,
            answer.candidate_counts,
            answer.model_versions,
        ]
    )
    return packed


def unpack_answer(packed: bytes) -> Answer | None:
    """The answer of `pack_answer`; None when the bytes are none (another release's, damaged)."""
    try:
        items, rest, recommendation_id, phase, count, counts, models = msgpack.unpackb(packed)
        return Answer(
            items=_unpack_items(items),
            rest=rest,
            recommendation_id=recommendation_id,
            phase=phase,
            interaction_count=count,
            candidate_counts=counts,
            cached=True,
            model_versions=tuple(models),
        )
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
