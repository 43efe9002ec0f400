"""The values of past answers: frozen, typed, without protobuf but for the request that was sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from penchant.v1.recommendation_pb2 import RecommendRequest
from penchant.values import EntityRef, Explanation, JsonObject, Recommendation, SourceScore


@dataclass(frozen=True, slots=True)
class LoggedCandidate:
    """An entity that a past answer could have held.

    Attributes:
        source_scores: what each source said of it.
        boost: the product of the boosts that matched; 1 when none did.
    """

    entity: EntityRef
    source_scores: tuple[SourceScore, ...]
    boost: float


@dataclass(frozen=True, slots=True)
class LoggedRecommendation:
    """A past answer with what it was made from; see penchant.v1.LoggedRecommendation.

    Attributes:
        expires_at: when it is no longer kept.
        request: what was asked.
        items: what was answered, over all pages that were ranked, without attributes.
        candidates: all that were ranked, in the order in which they were offered.
        history: the entities that the sources started from, strongest first.
        seen_excluded: whether entities that the user had seen were kept out.
        settings: source weights, the tenant's version, the catalogue's revision and others.
    """

    recommendation_id: str
    answered_at: datetime | None
    expires_at: datetime | None
    request: RecommendRequest
    items: tuple[Recommendation, ...]
    model_versions: tuple[str, ...]
    explanation: Explanation
    candidates: tuple[LoggedCandidate, ...]
    history: tuple[EntityRef, ...]
    seen_excluded: bool
    settings: JsonObject

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Replay:
    """A past answer made anew.

    Attributes:
        identical: whether items, scores and reasons are those that were answered.
        differences: what is not, a sentence each; empty when identical.
    """

    items: tuple[Recommendation, ...]
    identical: bool
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entity in a past answer.

    Attributes:
        outcome: recommended, ranked_lower, below_min_score or no_candidate.
        explanation: the same in a sentence.
        position: its place in the ranked list, from 0; None when it was not ranked.
        item: with score, reasons and source scores; None when it was no candidate.
    """

    outcome: str
    explanation: str
    position: int | None
    item: Recommendation | None
