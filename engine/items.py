"""Recommended entities, as every list has them."""

from dataclasses import dataclass


@dataclass(slots=True)
class Reason:
    """A source's share in a score, and the entities (type, id) that led to it."""

    source: str
    share: float
    because_of: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class SourceScore:
    """What one source said: its own score, the score on the blend's scale, its weight."""

    source: str
    raw: float
    normalized: float
    weight: float


@dataclass(slots=True)
class Item:
    """A recommended entity; `attributes` is JSON text."""

    entity_no: int
    entity_type: str
    entity_id: str
    score: float
    reasons: tuple[Reason, ...]
    attributes: str = "{}"
    source_scores: tuple[SourceScore, ...] = ()
