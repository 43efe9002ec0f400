"""What an answer starts from: versions, profile, history, context and neighbours of a user."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.entities import EntityKey, EntityRow
from storage.vector_codecs import array_elements, halfvec_rows

VECTORS = 30
"""Of how many of the latest entities of a history the vectors are looked at."""

MOST_SEEN = 1_000
"""Interactions that a list of what was seen is made from."""


@dataclass(slots=True)  # a hundred are made for an answer, and frozen ones take four times as long
class HistoryItem:
    """An entity of a user's recent history.

    Attributes:
        weight: the sum of the interactions' weights; negative means dislike.
        vector: float16 feature vector of the most recent liked ones, else None.
    """

    entity_no: int
    entity_type: str
    entity_id: str
    weight: float
    happened_at: datetime
    vector: NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Versions:
    """What a cached answer for a user depends on, of one snapshot.

    Attributes:
        catalogue_revision: changes with every change of the tenant's catalogue.
        revision: of the user's profile; 0 for a user never seen.
        model_revision: of the tenant's newest promotion of a model; 0 when there was none.
        transaction_id: every transaction with a smaller number is part of the snapshot.
    """

    catalogue_revision: int
    revision: int
    model_revision: int
    transaction_id: int


@dataclass(frozen=True, slots=True)
class UserContext:
    """What an answer for a user starts from, of one snapshot.

    Attributes:
        accumulator: float32, shape (dimension,), or None.
        history: recent entities, newest first.
        segment: the user entity's value of the tenant's segment attribute, or "".
    """

    interaction_count: int
    accumulator: NDArray[np.float32] | None
    history: tuple[HistoryItem, ...]
    segment: str


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The neighbours of an entity by co-interaction: int64 (n,) and float32 (n,)."""

    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]


NO_NEIGHBOURS = Neighbours(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is remembered of a catalogue at one revision, and need not be read for an answer.

    Attributes:
        vectors: by entity number, float16 (dimension,).
        neighbours: by entity number.
    """

    catalogue_revision: int
    vectors: Mapping[int, NDArray[np.float16]]
    neighbours: Mapping[int, Neighbours]


class Situation(NamedTuple):
    """All that an answer starts from, of one snapshot.

    Attributes:
        looked_at: the entities of the request's context that there are, in its order; without
            attributes.
        neighbours: by number those of the first entities of the context and the history.
        seen: what the user has seen; None where that is too much to be listed.
        read_at: when that was, by PostgreSQL's clock.
    """

    versions: Versions
    read_at: datetime
    user: UserContext
    looked_at: tuple[EntityRow, ...]
    neighbours: Mapping[int, Neighbours]
    seen: Sequence[EntityKey] | None


def read_situation(row: Any, interactions: int, neighbours_of: int) -> Situation:
    """A situation of which everything was read; see `UserStore.situation`."""
    sent = iter(halfvec_rows(row["vectors"]))
    history = _history(row, lambda _: next(sent))
    looked_at = context_of(row)
    neighbours = dict.fromkeys(_anchors(looked_at, history, neighbours_of), NO_NEIGHBOURS)
    ends = np.cumsum(row["lengths"] or (), dtype=np.int64).tolist()
    numbers = array_elements(row["neighbour_nos"], ">i8")
    scores = array_elements(row["scores"], ">f4")
    for anchor, length, end in zip(
        row["anchor_nos"] or (), row["lengths"] or (), ends, strict=True
    ):
        own = slice(end - length, end)
        neighbours[anchor] = Neighbours(numbers[own], scores[own])
    return _situation(row, history, looked_at, neighbours, interactions)


def recall_situation(
    row: Any,
    recalled: Recalled,
    interactions: int,
    neighbours_of: int,
    looked_at: tuple[EntityRow, ...] = (),
) -> Situation | None:
    """A situation of which the rest is remembered; see `UserStore.recalled_situation`."""
    if (row["catalogue_revision"] or 0) != recalled.catalogue_revision:
        return None
    try:
        history = _history(row, recalled.vectors.__getitem__)
        neighbours = {
            number: recalled.neighbours[number]
            for number in _anchors(looked_at, history, neighbours_of)
        }
    except KeyError:
        return None
    return _situation(row, history, looked_at, neighbours, interactions)


def _situation(
    row: Any,
    history: tuple[HistoryItem, ...],
    looked_at: tuple[EntityRow, ...],
    neighbours: Mapping[int, Neighbours],
    interactions: int,
) -> Situation:
    seen = None
    if (row["row_count"] or 0) < max(interactions, MOST_SEEN):
        met = zip(
            row["entity_types"] or (), row["entity_ids"] or (), row["seen"] or (), strict=True
        )
        seen = [(entity_type, entity_id) for entity_type, entity_id, is_seen in met if is_seen]
    return Situation(
        versions=_versions(row),
        read_at=row["read_at"],
        user=UserContext(
            interaction_count=row["interaction_count"] or 0,
            accumulator=row["accumulator"],
            history=history,
            segment=row["segment"] or "",
        ),
        looked_at=looked_at,
        neighbours=neighbours,
        seen=seen,
    )


def _versions(row: Any) -> Versions:
    return Versions(
        catalogue_revision=row["catalogue_revision"] or 0,
        revision=row["revision"] or 0,
        model_revision=row["model_revision"] or 0,
        transaction_id=row["transaction_id"],
    )


def _history(row: Any, vector_of: Callable[[int], NDArray[np.float16]]) -> tuple[HistoryItem, ...]:
    """The entities of a history; those that were only seen, or are gone, have no number.

    Args:
        vector_of: asked for the latest liked ones that have a vector, one after the other.
    """
    if row["revision"] is None or not row["entity_nos"]:
        return ()
    return tuple(
        [
            HistoryItem(
                number, entity_type, entity_id, weight, happened_at,
                vector_of(number) if has_vector and weight > 0 and place < VECTORS else None,
            )
            for place, (number, entity_type, entity_id, weight, happened_at, has_vector) in (
                enumerate(
                    zip(
                        row["entity_nos"],
                        row["entity_types"],
                        row["entity_ids"],
                        row["weights"],
                        row["happened_at"],
                        row["has_vector"],
                        strict=True,
                    )
                )
            )
            if number is not None
        ]
    )  # fmt: skip


def _anchors(
    looked_at: Sequence[EntityRow], history: Sequence[HistoryItem], most: int
) -> list[int]:
    """Whose neighbours count: the context's entities and then the history's, without repetition."""
    numbers = [row.entity_no for row in looked_at] + [item.entity_no for item in history[:most]]
    return list(dict.fromkeys(numbers[:most]))


def context_of(row: Any) -> tuple[EntityRow, ...]:
    """The entities of the request's context in a row of `user_situation`."""
    if not row["looked_nos"]:
        return ()
    directions = iter(halfvec_rows(row["looked_vectors"]))
    return tuple(
        EntityRow(
            entity_type,
            entity_id,
            entity_no=number,
            feature_vector=next(directions) if has_vector else None,
        )
        for number, entity_type, entity_id, has_vector in zip(
            row["looked_nos"],
            row["looked_types"],
            row["looked_ids"],
            row["looked_have_vector"],
            strict=True,
        )
    )
