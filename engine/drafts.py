"""What callers hand in, before it is checked: plain values from an RPC or a data source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of them."""


@dataclass(frozen=True, slots=True)
class EntityDraft:
    """An entity to create or change.

    Attributes:
        fields: the fields that the caller wants changed, by their proto names (`attributes`,
            `attributes.KEY`, `feature_vector`, `hidden`, `available_from`, `available_until`).
        feature_vector: float32 of the tenant's dimension, or None for one made from attributes.
    """

    entity_type: str
    entity_id: str
    attributes: Mapping[str, Json] | None = None
    feature_vector: NDArray[np.float32] | None = None
    hidden: bool = False
    available_from: datetime | None = None
    available_until: datetime | None = None
    fields: frozenset[str] = frozenset({"attributes"})


@dataclass(slots=True)
class InteractionDraft:
    """Something a user did; None stands for the default of the proto's field.

    A session's `user_id` is `session:` and the session's id. Not frozen, for speed alone: to make
    one takes a third of the time, and batches make thousands.
    """

    user_id: str
    entity_type: str
    entity_id: str
    interaction_type: str
    interaction_id: str | None = None
    weight: float | None = None
    metadata: Mapping[str, Json] | None = None
    timestamp: datetime | None = None
    recommendation_id: str | None = None
    position: int | None = None
