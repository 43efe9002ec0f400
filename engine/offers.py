"""What a tenant's model offers a user: history in, candidates with reasons out."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from engine.models.base import SECONDS_A_DAY
from engine.models.forms import NeighbourMatrix
from engine.models.forms.base import History, Scored, ServingModel
from engine.sources import Anchor
from storage.entities import EntityKey
from storage.situations import HistoryItem
from storage.vector_store import Ranked

_NOTHING: NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class ModelOffers:
    """A model's candidates for one request.

    Attributes:
        label: name@version.
        ranked: entities by the model's own scores.
        because: of each number the history's entities that led to it, strongest first.
    """

    label: str
    ranked: Ranked
    because: Mapping[int, tuple[EntityKey, ...]]


def history_of(
    model: ServingModel, anchors: Sequence[Anchor], items: Sequence[HistoryItem]
) -> tuple[History, list[EntityKey]]:
    """The history in the model's places, and the name of each; entities it does not know are out.

    Args:
        anchors: context entities, which count as of this moment, and before the history.
        items: the user's history, newest first.
    """
    now = datetime.now(UTC)
    numbers = [a.entity_no for a in anchors] + [h.entity_no for h in items]
    keys = [(a.entity_type, a.entity_id) for a in anchors]
    keys += [(h.entity_type, h.entity_id) for h in items]
    weights = [a.weight for a in anchors] + [h.weight for h in items]
    ages = [0.0] * len(anchors)
    ages += [max(0.0, (now - h.happened_at).total_seconds()) / SECONDS_A_DAY for h in items]
    wanted = np.asarray(numbers, np.int64)
    places = np.searchsorted(model.entity_nos, wanted)
    places[places == len(model.entity_nos)] = 0
    known = model.entity_nos[places] == wanted if len(model.entity_nos) else np.zeros(0, np.bool_)
    # An entity of the context may stand in the history too: its first place is the one that counts.
    _, first = np.unique(places, return_index=True)
    once = np.zeros(len(places), np.bool_)
    once[first] = True
    kept = np.flatnonzero(known & once)
    history = History(
        places[kept].astype(np.int32),
        np.asarray(weights, np.float32)[kept],
        np.asarray(ages, np.float32)[kept],
    )
    return history, [keys[i] for i in kept.tolist()]


async def offers_of(
    label: str,
    model: ServingModel,
    anchors: Sequence[Anchor],
    items: Sequence[HistoryItem],
    *,
    limit: int,
) -> ModelOffers | None:
    """The best entities by a model; None when it has nothing to say of this history.

    What the user has seen is among them: which interactions mark an entity as seen is PostgreSQL's
    to know, and `limit` many are left whatever it takes out of the history.
    """
    history, keys = history_of(model, anchors, items)
    wanted = limit + len(history.items)
    if isinstance(model, NeighbourMatrix):
        scored = model.top(history, wanted, _NOTHING)
    else:
        # A product with all factors takes longer than the event loop should be held.
        scored = await asyncio.to_thread(model.top, history, wanted, _NOTHING)
    return _named(label, model, scored, keys) if len(scored.items) else None


def _named(
    label: str, model: ServingModel, scored: Scored, keys: Sequence[EntityKey]
) -> ModelOffers:
    numbers = model.entity_nos[scored.items]
    led = dict(zip(numbers.tolist(), scored.because, strict=True)) if scored.because else {}
    ranked = Ranked(numbers.astype(np.int64), scored.scores.astype(np.float64))
    return ModelOffers(label, ranked, _Because(led, keys))


class _Because(Mapping[int, tuple[EntityKey, ...]]):
    """Of entities those that led to them, named when they are asked for: most are not.

    Args:
        places: in `keys`, by the entity's number.
    """

    def __init__(self, places: Mapping[int, Sequence[int]], keys: Sequence[EntityKey]) -> None:
        self._places = places
        self._keys = keys

    def __getitem__(self, number: int) -> tuple[EntityKey, ...]:
        keys = self._keys
        return tuple([keys[place] for place in self._places[number]])

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
