"""What a candidate source is: a name, its weight for a user's phase, and when it has a say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Phase: TypeAlias = Literal["unknown", "cold", "warm"]
"""A user never seen, one with few interactions, and one whose profile can be trusted."""


@dataclass(slots=True)  # as HistoryItem
class Anchor:
    """An entity of the history or the context that can be the reason for a recommendation.

    Attributes:
        weight: how much it counts for item-to-item; negative repels.
        vector: float32 unit vector of the tenant's dimension, or None.
        context: it comes from the request's context, not from the history.
    """

    entity_no: int
    entity_type: str
    entity_id: str
    weight: float
    vector: NDArray[np.float32] | None
    context: bool = False


class Inputs(NamedTuple):
    """What the sources start from.

    Attributes:
        profile, context: float32 unit vectors, or None.
        anchors: context entities first, then the history, newest first.
        segment: the user's segment, or "".
        offers: whether a trained model has anything to say.
        because: of entities that the model offers the names of those that led to them.
    """

    phase: Phase
    profile: NDArray[np.float32] | None
    context: NDArray[np.float32] | None
    anchors: tuple[Anchor, ...]
    segment: str = ""
    offers: bool = False
    because: Mapping[int, tuple[tuple[str, str], ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CandidateSource:
    """One way to find candidates; its statement is `storage/sql/candidates/{name}.sql`.

    Attributes:
        weights: the source's weight in the blend by phase.
        asks: whether it can offer anything for these inputs.
        reasons: which anchors are the reason for content-like sources (chosen by cosine); None for
            sources that look at no anchors or name them in SQL.
    """

    name: str
    weights: Mapping[Phase, float]
    asks: Callable[[Inputs], bool] = field(default=lambda _: True)
    reasons: Callable[[Anchor], bool] | None = None
