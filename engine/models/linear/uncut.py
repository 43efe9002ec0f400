"""A linear model as it is judged during tuning: whole, before its rows are cut to K."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.models.forms.base import History, Scored, best


class Uncut:
    """Scores by a function; never kept and never served.

    Args:
        entity_nos: int64 (n_items,), ascending.
        score: scores of every item for a float32 CSR matrix of histories, (users, n_items).
    """

    form: ClassVar[str] = "uncut"

    def __init__(
        self,
        entity_nos: NDArray[np.int64],
        score: Callable[[sparse.csr_matrix], NDArray[np.float32]],
    ) -> None:
        self.entity_nos = entity_nos
        self._score = score

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """See ServingModel."""
        return self._score(histories)

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """See ServingModel; without reasons."""
        shape = (1, len(self.entity_nos))
        row = sparse.csr_matrix((history.weights, history.items, [0, len(history.items)]), shape)
        scores = self._score(row)[0]
        scores[exclude] = 0
        scores[history.items] = 0
        places = np.flatnonzero(scores > 0).astype(np.int32)
        order = best(scores[places], places, k)
        return Scored(places[order], scores[places[order]], [()] * len(order))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing: it is never kept."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Nothing: it is never kept."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """It is never kept.

        Raises:
            ValueError: always.
        """
        raise ValueError("an uncut model is never kept")
