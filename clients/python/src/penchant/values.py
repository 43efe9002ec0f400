"""The values that calls take and return: frozen, typed, without protobuf."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

import grpc

JsonObject = dict[str, Any]
"""A JSON object: None, bool, int, float, str, list and dict values."""


class EntityRef(NamedTuple):
    """The name of an entity; a plain `(entity_type, entity_id)` does wherever one is asked for."""

    entity_type: str
    entity_id: str


@dataclass(frozen=True, slots=True)
class RowError:
    """A row of a batch that was refused; the other rows were stored.

    Attributes:
        index: the row's place, from 0 (in `ingest_stream`, within its batch).
        code: the status that a call with this row alone would have ended with.
        reason: the stable word of penchant.v1.ErrorReason, without its prefix.
        field: the path of the field at fault; empty when no single one is.
        message: one sentence for a person.
    """

    index: int
    code: grpc.StatusCode
    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of why an entity is recommended.

    Attributes:
        source: content, item_to_item, context, trending, popular, segment or newest.
        because_of: what the user did before that led here, strongest first.
        share: this source's part of the score, 0 to 1.
    """

    source: str
    because_of: tuple[EntityRef, ...]
    share: float


@dataclass(frozen=True, slots=True)
class SourceScore:
    """What one source said of an item; see penchant.v1.SourceScore."""

    source: str
    raw: float
    normalized: float
    weight: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended entity.

    Attributes:
        entity: its name.
        score: orders the list, higher is better.
        reasons: why, the largest share first.
        attributes: those asked for, as JSON values; whole numbers are int.
        source_scores: the inputs of the blend; empty without `explain`.
    """

    entity: EntityRef
    score: float
    reasons: tuple[Reason, ...] = ()
    attributes: JsonObject = field(default_factory=dict)
    source_scores: tuple[SourceScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an answer came about; see penchant.v1.Explanation."""

    phase: str
    interaction_count: int
    candidate_counts: Mapping[str, int]
    cached: bool


@dataclass(frozen=True, slots=True)
class Recommendations:
    """An answer with items, best first; iterate over it or read `items`.

    Attributes:
        recommendation_id: pass it on with the interactions that this answer leads to.
        model_versions: the trained models that took part.
        degraded: what could not take part; empty in normal times.
        next_page_token: asks for what follows; empty when nothing does.
        freshness_token: the state that the answer was computed from.
        explanation: only with `explain`.
        stale: something may have changed since; only with `max_staleness`.
    """

    items: tuple[Recommendation, ...]
    recommendation_id: str = ""
    model_versions: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    next_page_token: str = ""
    freshness_token: str = ""
    explanation: Explanation | None = None
    stale: bool = False

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class TrendingEntities:
    """What gathered the most interactions between `window_start` and `window_end`.

    Attributes:
        degraded: what could not take part; empty in normal times. Then there is no window.
    """

    items: tuple[Recommendation, ...]
    window_start: datetime | None
    window_end: datetime | None
    next_page_token: str = ""
    degraded: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Reranked:
    """The caller's list in its new order, and those of it that cannot be recommended."""

    items: tuple[Recommendation, ...]
    missing: tuple[EntityRef, ...]
    recommendation_id: str

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class ScoredUser:
    """One user of an answer; `score` is a cosine, -1 to 1."""

    user_id: str
    score: float
    interaction_count: int


@dataclass(frozen=True, slots=True)
class ScoredUsers:
    """Users, best first; iterate over it or read `users`."""

    users: tuple[ScoredUser, ...]
    next_page_token: str = ""

    def __iter__(self) -> Iterator[ScoredUser]:
        return iter(self.users)

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True)
class EntityDraft:
    """An entity to create or change; None leaves a field of a stored entity as it is.

    Attributes:
        attributes: JSON values, replaced as a whole unless `update_mask` names single keys.
        feature_vector: exactly the tenant's dimension; left out, the service makes one from the
            attributes.
        hidden: keeps the entity out of every answer.
        available_from: from when it may be recommended; with a time zone.
        available_until: from when no longer; with a time zone.
        update_mask: the fields to change, in place of the given ones; a field that it names and
            that is None goes back to its default.
    """

    entity_type: str
    entity_id: str
    attributes: Mapping[str, Any] | None = None
    feature_vector: Sequence[float] | None = None
    hidden: bool | None = None
    available_from: datetime | None = None
    available_until: datetime | None = None
    update_mask: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity as stored; `feature_vector` is empty unless it was asked for."""

    entity: EntityRef
    attributes: JsonObject
    feature_vector: tuple[float, ...]
    hidden: bool
    available_from: datetime | None
    available_until: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    stub: bool


@dataclass(frozen=True, slots=True)
class Upserted:
    """An entity as stored; `created` says that it had not existed before."""

    entity: Entity
    created: bool


@dataclass(frozen=True, slots=True)
class BatchUpserted:
    """How many rows were stored, and those that were refused, by place in the whole input."""

    upserted_count: int
    errors: tuple[RowError, ...] = ()


@dataclass(frozen=True, slots=True)
class Interaction:
    """Something a user did with an entity; the same form is sent and listed.

    `interaction_id` is a new UUID unless given, so sending the same object twice stores it once.

    Attributes:
        user_id: who did it; None when `session_id` names an anonymous session instead.
        weight: None takes the type's weight; negative means dislike.
        timestamp: when it happened, with a time zone; None is now.
        recommendation_id: that of the answer which led to it.
        position: the place in that answer, from 0.
        received_at: when the service stored it; never sent.
    """

    user_id: str | None
    entity_type: str
    entity_id: str
    interaction_type: str
    session_id: str | None = None
    interaction_id: str = field(default_factory=lambda: str(uuid4()))
    weight: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timestamp: datetime | None = None
    recommendation_id: str = ""
    position: int | None = None
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """An interaction is committed; `freshness_token` makes a later recommend know of it."""

    interaction_id: str
    received_at: datetime | None
    freshness_token: str


@dataclass(frozen=True, slots=True)
class BatchAck:
    """A batch of a stream is committed; `sequence` counts the batches from 0."""

    sequence: int
    stored_count: int
    duplicate_count: int
    errors: tuple[RowError, ...]
    freshness_token: str


@dataclass(frozen=True, slots=True)
class Changed:
    """How many interactions were deleted or moved, and the token of the state after that."""

    count: int
    freshness_token: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """A vector that stands for an entity.

    Attributes:
        values: 1 to 16,000 numbers, kept in single precision; as many as the others of the type and
            version have.
        version: the set it belongs to.
        update_time: when it was last written; filled by the service.
    """

    entity_type: str
    entity_id: str
    values: Sequence[float]
    version: str = "1"
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingStats:
    """What the embeddings of one type and version are; `size_bytes` are those of the vectors."""

    entity_type: str
    version: str
    dimension: int
    count: int
    size_bytes: int
    last_update_time: datetime | None


@dataclass(frozen=True, slots=True)
class DemandPoint:
    """One step: its start (UTC), the interactions expected in it, and their bounds."""

    start: datetime
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DemandForecast:
    """What demand will be.

    Attributes:
        points: the steps to come.
        method: what answered: seasonal_naive or exponential_smoothing.
        errors: the mean absolute error on held-out seasons of each method that could be tried.
        history: the counted steps, oldest first; their bounds equal the count.
    """

    points: tuple[DemandPoint, ...]
    method: str
    errors: Mapping[str, float]
    history: tuple[DemandPoint, ...]
