"""Answers: what the recommender gives back, and their compact form for caches and page tokens."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgpack

PlainItem: TypeAlias = list[Any]
"""An item as it is packed: number, type, id, score, reasons, attributes, source scores."""

_MAX_REST_BYTES = 4 * 1024 * 1024


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


def _pack_items(items: Sequence[Item], *, attributes: bool) -> list[PlainItem]:
    return [
        [
            i.entity_no,
            i.entity_type,
            i.entity_id,
            i.score,
            [[r.source, r.share, r.because_of] for r in i.reasons],
            i.attributes if attributes else "{}",
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
            _pack_items(answer.items, attributes=True),
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


def pack_rest(items: Sequence[Item]) -> bytes:
    """Items of later pages in small, for caches and page tokens; b"" for none.

    They go without attributes, which are read again when the page is asked for.
    """
    return pack_plain(_pack_items(items, attributes=False))


def pack_plain(items: Sequence[PlainItem]) -> bytes:
    """The same of items that are plain already; their attributes must be "{}"."""
    return zlib.compress(msgpack.packb(items), level=1) if items else b""


def unpack_rest(packed: bytes) -> tuple[Item, ...]:
    """The items of `pack_rest`.

    Raises:
        ValueError: it is none of that function's.
    """
    if not packed:
        return ()
    try:
        inflated = zlib.decompressobj().decompress(packed, _MAX_REST_BYTES)
        items = _unpack_items(msgpack.unpackb(inflated))
    except (
        ValueError, TypeError, OverflowError, zlib.error, msgpack.UnpackException,
    ) as error:  # fmt: skip
        raise ValueError("no packed items") from error
    if not all(0 < item.entity_no < 2**63 for item in items):
        raise ValueError("no number of an entity")
    return items
