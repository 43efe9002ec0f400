"""The serving form of user segments: the nearest centroid, and what its members like."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.models.forms.base import History, Scored, best
from engine.models.forms.factors import FactorModel
from engine.models.forms.history import wanted

NO_SEGMENT = -1


class ClusterModel:
    """A history is folded in, its segment found, and the segment's popular entities answer.

    Segments are compared by direction: a user's vector is brought to length one first. No reasons:
    what answers is the segment, not one entity of the history.

    Args:
        entity_nos: int64 (n,), ascending.
        factors: float32 (n, f), orthonormal columns: a user is the weighted sum of the rows.
        centroids: float32 (segments, f).
        scores: float32 CSR (segments, n), not negative: what each segment makes of each entity.
        binary: whether every positive weight of the history counts 1.
        half_life_days: an entity that much older counts half; None: age does not matter.
    """

    form: ClassVar[str] = "clusters"

    def __init__(
        self,
        entity_nos: NDArray[np.int64],
        factors: NDArray[np.float32],
        centroids: NDArray[np.float32],
        scores: sparse.csr_matrix,
        *,
        binary: bool = False,
        half_life_days: float | None = None,
    ) -> None:
        self.entity_nos = entity_nos
        self.centroids = centroids
        self.scores = scores
        self._space = FactorModel(entity_nos, factors, binary=binary, half_life_days=half_life_days)

    @property
    def binary(self) -> bool:
        """Whether every positive weight of a history counts 1."""
        return self._space.binary

    @property
    def half_life_days(self) -> float | None:
        """The age at which an entity of a history counts half."""
        return self._space.half_life_days

    def users(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """Users' factors (users, f) of the rows of a CSR matrix of summed weights."""
        return self._space.users(histories)

    def segment_of(self, history: History) -> int:
        """The segment that a history belongs to; NO_SEGMENT when nothing of it is known."""
        user = self._space.live(history)
        return NO_SEGMENT if user is None else int(self._nearest(user[None])[0])

    def segments_of(self, histories: sparse.csr_matrix) -> NDArray[np.intp]:
        """The segments (users,) of the rows of a CSR matrix of summed weights."""
        return self._nearest(self._space.users(histories))

    def _nearest(self, users: NDArray[np.float32]) -> NDArray[np.intp]:
        lengths = np.linalg.norm(users, axis=1, keepdims=True)
        known = users / np.where(lengths > 0, lengths, np.float32(1))
        # The least squared distance: |u|^2 is the same for all centroids of a user.
        near = known @ self.centroids.T - np.square(self.centroids).sum(axis=1) / 2
        return np.where(lengths[:, 0] > 0, near.argmax(axis=1), NO_SEGMENT)

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """See ServingModel."""
        segment = self.segment_of(history)
        if segment == NO_SEGMENT:
            return Scored(np.empty(0, np.int32), np.empty(0, np.float32), ())
        part = slice(self.scores.indptr[segment], self.scores.indptr[segment + 1])
        places, scores = self.scores.indices[part], self.scores.data[part]
        kept = ~np.isin(places, exclude) & (scores > 0)
        places, scores = places[kept], scores[kept]
        order = best(scores, places, k)
        return Scored(places[order], scores[order], ())

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """See ServingModel."""
        segments = self.segments_of(histories)
        scores: NDArray[np.float32] = self.scores[segments].toarray()
        scores[segments == NO_SEGMENT] = 0
        return scores

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See ServingModel."""
        return {
            "entity_nos": self.entity_nos,
            "factors": self._space.factors,
            "centroids": self.centroids,
            "indptr": self.scores.indptr.astype(np.int64),
            "indices": self.scores.indices.astype(np.int32),
            "data": self.scores.data,
        }

    def settings(self) -> dict[str, Any]:
        """See ServingModel."""
        return {"binary": self._space.binary, "half_life_days": self._space.half_life_days}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """See ServingModel."""
        entity_nos, factors, centroids = wanted(arrays, "entity_nos", "factors", "centroids")
        data, indices, indptr = wanted(arrays, "data", "indices", "indptr")
        shape = (len(centroids), len(entity_nos))
        scores = sparse.csr_matrix((data, indices, indptr), shape=shape, copy=False)
        scores.check_format()
        if factors.ndim != 2 or centroids.ndim != 2 or len(factors) != len(entity_nos):
            raise ValueError("factors do not fit")
        if centroids.shape[1] != factors.shape[1]:
            raise ValueError("centroids do not fit")
        return cls(entity_nos, factors, centroids, scores, **settings)
