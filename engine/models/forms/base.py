"""What every serving form can do: score a history, say why, become arrays and come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MAX_BECAUSE = 3


@dataclass(frozen=True, slots=True)
class History:
    """What a user did, as a model sees it: entities that the model knows, newest first.

    Attributes:
        items: int32 (h,), places in the model's entity_nos, none twice.
        weights: float32 (h,), summed interaction weights; negative repels.
        ages: float32 (h,), days since the last interaction with the entity.
    """

    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    ages: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """The best entities for a history, best first.

    Attributes:
        items: int32 (k,), places in the model's entity_nos.
        scores: float32 (k,), finite.
        because: of each item the places in the history that led to it, strongest first, at most
            three; empty where a model looks at no history.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    because: Sequence[tuple[int, ...]]


class ServingModel(Protocol):
    """A trained model as it answers. Arrays may lie in a memory map and are never written to.

    Attributes:
        form: the name of the class in the artefact.
        entity_nos: int64 (n_items,), ascending: which entity each place stands for.
    """

    form: ClassVar[str]
    entity_nos: NDArray[np.int64]

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """The k best entities without the excluded places; fewer where there are no more.

        Entities of the history are excluded only where `exclude` says so. An entity that the model
        says nothing of for this history does not appear.
        """

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """Scores of every entity for many histories at once, for evaluation.

        Args:
            histories: float32 CSR (users, n_items) of summed weights; ages are not known, so
                decay by age is left out.

        Returns:
            float32 (users, n_items); higher is better.
        """

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that has to be kept, entity_nos included; names without "/"."""

    def settings(self) -> dict[str, Any]:
        """JSON-ready values that `from_arrays` wants back."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """The model again.

        Raises:
            ValueError: arrays are missing, or their shapes or values do not fit together.
        """


def best(scores: NDArray[np.float32], places: NDArray[np.int32], k: int) -> NDArray[np.intp]:
    """Positions of the k largest scores, largest first, equal ones by place; shapes (n,)."""
    if k < len(scores):
        among = np.argpartition(-scores, k - 1)[:k]
        # Equal scores at the cut: the partition took any of them, so all are looked at again.
        edge = scores[among].min()
        among = np.flatnonzero(scores >= edge)
    else:
        among = np.arange(len(scores))
    order = np.lexsort((places[among], -scores[among]))
    return among[order][:k]
