"""The serving form of models that say the same to everybody: one score an entity."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.models.forms.base import History, Scored
from engine.models.forms.history import wanted


class ItemScores:
    """Entities by a score of their own, whatever the history. Gives no reasons.

    Args:
        entity_nos: int64 (n,), ascending.
        scores: float32 (n,); an entity whose score is not above zero does not appear.
        order: int32 (n,), the places by falling score; None: found out here.
    """

    form: ClassVar[str] = "scores"

    def __init__(
        self,
        entity_nos: NDArray[np.int64],
        scores: NDArray[np.float32],
        order: NDArray[np.int32] | None = None,
    ) -> None:
        self.entity_nos = entity_nos
        self.scores = scores
        self.order = np.argsort(-scores, kind="stable").astype("i4") if order is None else order

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """See ServingModel."""
        # Of so many at most len(exclude) fall away, so the catalogue is never passed over.
        items = self.order[: k + len(exclude)]
        items = items[~np.isin(items, exclude)][:k]
        items = items[self.scores[items] > 0]
        return Scored(items, self.scores[items], ())

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """See ServingModel."""
        return np.tile(self.scores, (histories.shape[0], 1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See ServingModel."""
        return {"entity_nos": self.entity_nos, "scores": self.scores, "order": self.order}

    def settings(self) -> dict[str, Any]:
        """See ServingModel."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """See ServingModel."""
        model = cls(*wanted(arrays, "entity_nos", "scores", "order"), **settings)
        n = len(model.entity_nos)
        if model.scores.shape != (n,) or model.order.shape != (n,):
            raise ValueError("scores do not fit")
        if n and not (model.order.min() >= 0 and model.order.max() < n):
            raise ValueError("order lies outside the catalogue")
        return model
