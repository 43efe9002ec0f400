"""The serving form of a blend: other forms over the same entities, their answers weighed."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# The table of forms is read when a blend is loaded: it is not yet whole when this module is.
from engine.models import forms
from engine.models.forms.base import History, Scored, ServingModel, best

BlendMethod = Literal["scores", "rrf"]
RRF_CONSTANT = 60.0


class Blend:
    """The sum of what each component makes of an entity, times the component's weight.

    "scores": a component's scores, moved to 0..1 over its best `pool` entities that the history
    lacks. "rrf": 1 / (60 + rank) among those (Cormack, Clarke, Buettcher, "Reciprocal rank fusion
    outperforms Condorcet and individual rank learning methods", SIGIR 2009). Entities outside of
    all pools do not appear. An entity's reasons are those of the component that gave the largest
    part of its score.

    Args:
        components: models over equal entity_nos; at least one.
        weights: of each component, above zero.
        method: one of the two above.
        pool: how many entities of each component take part; more where more are asked for.
    """

    form: ClassVar[str] = "blend"

    def __init__(
        self,
        components: Sequence[ServingModel],
        weights: Sequence[float],
        *,
        method: BlendMethod = "scores",
        pool: int = 500,
    ) -> None:
        self.entity_nos = components[0].entity_nos
        self.components = tuple(components)
        self.weights = tuple(weights)
        self.method: BlendMethod = method
        self.pool = pool

    def _parts(
        self, scores: NDArray[np.float32], new: NDArray[np.bool_], weight: float, pool: int
    ) -> NDArray[np.float32]:
        """What a component adds, float32 (up to p,), to the first of the p entities it scored.

        Args:
            scores: (p,), best first.
            new: (p,), whether the history lacks the entity: only those have ranks and make the
                scale, because factors score highest what the user has already.
        """
        ranks = np.cumsum(new)
        end = int(np.searchsorted(ranks, pool, side="left")) + 1
        scores, new, ranks = scores[:end], new[:end], ranks[:end]
        if self.method == "rrf":
            values: NDArray[Any] = 1 / (RRF_CONSTANT + np.maximum(ranks, 1))
        else:
            scale = scores[new] if new.any() else scores
            low, high = (scale[-1], scale[0]) if len(scale) else (0, 0)
            values = np.maximum(scores - low, 0) / (high - low) if high > low else ranks * 0 + 1
        return np.asarray(values * weight, np.float32)

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """See ServingModel."""
        pool = max(self.pool, k)
        places, parts, reasons = [], [], []
        for component, weight in zip(self.components, self.weights, strict=True):
            answer = component.top(history, pool + len(history.items), exclude)
            new = ~np.isin(answer.items, history.items)
            parts.append(self._parts(answer.scores, new, weight, pool))
            places.append(answer.items[: len(parts[-1])])
            reasons.append(dict(zip(answer.items.tolist(), answer.because, strict=False)))
        items, where = np.unique(np.concatenate(places), return_inverse=True)
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        shares = np.zeros((len(parts), len(items)), np.float32)
        shares[owner, where] = np.concatenate(parts)
        scores = shares.sum(axis=0)
        order = best(scores, items, k)
        items, leads = items[order], shares[:, order].argmax(axis=0)
        return Scored(
            items,
            scores[order],
            [
                reasons[lead].get(place, ())
                for lead, place in zip(leads.tolist(), items.tolist(), strict=True)
            ],
        )

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """See ServingModel."""
        blended = np.zeros(histories.shape, np.float32)
        for component, weight in zip(self.components, self.weights, strict=True):
            for row, all_scores in enumerate(component.score_all(histories)):
                own = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
                places = np.flatnonzero(all_scores > 0).astype(np.int32)
                places = places[best(all_scores[places], places, self.pool + len(own))]
                new = ~np.isin(places, own)
                parts = self._parts(all_scores[places], new, weight, self.pool)
                blended[row, places[: len(parts)]] += parts
        return blended

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See ServingModel; a component's arrays have its number and a dot before their names."""
        held: dict[str, NDArray[Any]] = {"entity_nos": self.entity_nos}
        for number, component in enumerate(self.components):
            for name, array in component.arrays().items():
                if name != "entity_nos":
                    held[f"{number}.{name}"] = array
        return held

    def settings(self) -> dict[str, Any]:
        """See ServingModel."""
        return {
            "components": [
                {"form": component.form, "settings": component.settings()}
                for component in self.components
            ],
            "weights": list(self.weights),
            "method": self.method,
            "pool": self.pool,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """See ServingModel."""
        rest = dict(settings)
        about = rest.pop("components")
        weights = rest.pop("weights")
        if not about or len(about) != len(weights) or "entity_nos" not in arrays:
            raise ValueError("components do not fit")
        if rest.get("method") not in get_args(BlendMethod):
            raise ValueError(f"method {rest.get('method')} is unknown")
        components = []
        for number, one in enumerate(about):
            prefix = f"{number}."
            own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            own["entity_nos"] = arrays["entity_nos"]
            components.append(forms.BY_FORM[one["form"]].from_arrays(own, one["settings"]))
        return cls(components, weights, **rest)
