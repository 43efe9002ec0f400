"""The serving form of factor models: entities as vectors, and a user made of a live history.

A user is never looked up: their vector is folded in from what they did until now, so a new user
and the last click count at once. The search is exact, one BLAS product, up to INDEX_FROM entities:
some 4 ms for 41k of 256 factors. Above, an index is kept with the model and looked into.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from engine.models.forms.base import History, Scored, best
from engine.models.forms.factor_index import INDEX_FROM, FactorIndex
from engine.models.forms.history import leading, live_weights, rows_of, wanted

FoldIn = Literal["linear", "confidence"]


class FactorModel:
    """Scores are the product of the user's vector with each entity's, plus the entity's bias.

    Folding in, with Y (h, f) the factors of the history, w (h,) its weights, P the projection:

    linear: x = P'Y'w. P is absent for orthonormal factors (SVD), else a ridge solution.

    confidence: Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM
    2008, with the weights of `implicit`: c = alpha * w; x solves
    (G + reg I + sum (|c| - 1) y y') x = sum over c > 0 of c y, where P = (G + reg I)^-1 and G is
    the gram of all factors. So a negative weight says with confidence that nothing is liked.

    Reasons are the nearest entities of the history by cosine of factors, among those of positive
    weight. Entities whose score is not above zero do not appear.

    Args:
        entity_nos: int64 (n,), ascending.
        factors: float32 (n, f); a row of zeros: the model knows nothing of that entity.
        projection: float64 (f, f), symmetric for "confidence", or None for the identity.
        biases: float32 (n,) or None.
        fold_in: one of the two above.
        alpha: confidence of a weight of one; for "confidence".
        binary: whether every positive weight of the history counts 1.
        half_life_days: an entity that much older counts half; None: age does not matter.
        index: of the factors, with the biases as one more column where there are some; None: the
            search is exact. `arrays` makes one for INDEX_FROM entities and more.
    """

    form: ClassVar[str] = "factors"

    def __init__(
        self,
        entity_nos: NDArray[np.int64],
        factors: NDArray[np.float32],
        projection: NDArray[np.float64] | None = None,
        biases: NDArray[np.float32] | None = None,
        *,
        fold_in: FoldIn = "linear",
        alpha: float = 1.0,
        binary: bool = False,
        half_life_days: float | None = None,
        index: FactorIndex | None = None,
    ) -> None:
        self.entity_nos = entity_nos
        self.factors = factors
        self.projection = projection
        self.biases = biases
        self.fold_in: FoldIn = fold_in
        self.alpha = alpha
        self.binary = binary
        self.half_life_days = half_life_days
        self.index = index

    def user(
        self, items: NDArray[np.integer[Any]], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The vector (f,) of a user with these entities (h,) and weights (h,), none of them 0."""
        near = self.factors[items]
        if self.fold_in == "linear":
            return self._project(weights @ near)
        confidence = self.alpha * weights.astype(np.float64)
        extra, aim = np.abs(confidence) - 1, np.maximum(confidence, 0)
        y = near.astype(np.float64)
        projected = y if self.projection is None else y @ self.projection
        if len(items) <= y.shape[1]:
            # (P^-1 + Y'DY)^-1 Y' = PY' (I + DYPY')^-1: a system of the history's size.
            system = np.eye(len(items)) + extra[:, None] * (projected @ y.T)
            return np.asarray(projected.T @ np.linalg.solve(system, aim), np.float32)
        system = np.eye(y.shape[1]) + projected.T @ (extra[:, None] * y)
        return np.linalg.solve(system, projected.T @ aim).astype(np.float32)

    def _project(self, summed: NDArray[np.float32]) -> NDArray[np.float32]:
        projected = summed if self.projection is None else summed @ self.projection
        return np.asarray(projected, np.float32)

    def users(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """Vectors float32 (users, f) of the rows of a CSR matrix of summed weights."""
        rows = rows_of(histories, binary=self.binary)
        if self.fold_in == "linear":
            return self._project(rows @ self.factors)
        vectors = np.zeros((rows.shape[0], self.factors.shape[1]), np.float32)
        # Threads in the solver of a small system cost ten times what they save.
        with threadpool_limits(1, "blas"):
            for row in np.flatnonzero(np.diff(rows.indptr)):
                part = slice(rows.indptr[row], rows.indptr[row + 1])
                vectors[row] = self.user(rows.indices[part], rows.data[part])
        return vectors

    def live(self, history: History) -> NDArray[np.float32] | None:
        """The vector (f,) of a live history; None when nothing of it counts."""
        weights = live_weights(history, binary=self.binary, half_life_days=self.half_life_days)
        used = np.flatnonzero(weights)
        return self.user(history.items[used], weights[used]) if len(used) else None

    def top(self, history: History, k: int, exclude: NDArray[np.int32]) -> Scored:
        """See ServingModel."""
        user = self.live(history)
        if user is None:
            return Scored(np.empty(0, np.int32), np.empty(0, np.float32), ())
        places, scores = self._search(user, k, exclude)
        order = best(scores, places, k)
        items = places[order]
        return Scored(items, scores[order], self._because(items, history))

    def _search(
        self, user: NDArray[np.float32], k: int, exclude: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Places and scores above zero, the k best of them among them; in no order."""
        if self.index is not None:
            query = user if self.biases is None else np.append(user, np.float32(1))
            places, scores = self.index.search(query)
            hidden = np.zeros(len(self.entity_nos), bool)
            hidden[exclude] = True
            good = np.flatnonzero((scores > 0) & ~hidden[places])
            # Else what is hidden, or of no use, fills the lists that promised most.
            if len(good) >= k:
                return places[good], scores[good]
        scores = self.factors @ user
        if self.biases is not None:
            scores += self.biases
        scores[exclude] = 0
        places = np.flatnonzero(scores > 0).astype(np.int32)
        return places, scores[places]

    def _because(self, items: NDArray[np.int32], history: History) -> list[tuple[int, ...]]:
        liked = np.flatnonzero(history.weights > 0)
        if not len(liked):
            return [()] * len(items)
        past = history.items[liked]
        cosines = _directions(self.factors[items]) @ _directions(self.factors[past]).T
        cosines[items[:, None] == past] = 0  # nothing is its own reason
        return leading(cosines, liked)

    def score_all(self, histories: sparse.csr_matrix) -> NDArray[np.float32]:
        """See ServingModel."""
        scores: NDArray[np.float32] = self.users(histories) @ self.factors.T
        if self.biases is not None:
            scores += self.biases
        return scores

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See ServingModel."""
        held: dict[str, NDArray[Any]] = {"entity_nos": self.entity_nos, "factors": self.factors}
        if self.projection is not None:
            held["projection"] = self.projection
        if self.biases is not None:
            held["biases"] = self.biases
        index = self.index
        if index is None and len(self.factors) >= INDEX_FROM:
            biases = None if self.biases is None else self.biases[:, None]
            index = FactorIndex.of(
                self.factors if biases is None else np.hstack([self.factors, biases])
            )
        if index is not None:
            held |= index.arrays()
        return held

    def settings(self) -> dict[str, Any]:
        """See ServingModel."""
        return {
            "fold_in": self.fold_in,
            "alpha": self.alpha,
            "binary": self.binary,
            "half_life_days": self.half_life_days,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """See ServingModel."""
        entity_nos, factors = wanted(arrays, "entity_nos", "factors")
        index = FactorIndex.from_arrays(arrays, len(entity_nos))
        model = cls(
            entity_nos,
            factors,
            arrays.get("projection"),
            arrays.get("biases"),
            index=index,
            **settings,
        )
        if factors.ndim != 2 or len(factors) != len(entity_nos):
            raise ValueError("factors do not fit")
        if model.projection is not None and model.projection.shape != (factors.shape[1],) * 2:
            raise ValueError("projection does not fit")
        if model.biases is not None and model.biases.shape != entity_nos.shape:
            raise ValueError("biases do not fit")
        width = factors.shape[1] + (model.biases is not None)
        if index is not None and index.vectors.shape[1] != width:
            raise ValueError("index does not fit")
        if model.fold_in not in get_args(FoldIn):
            raise ValueError(f"fold_in {model.fold_in} is unknown")
        return model


def ridge(factors: NDArray[np.float32], regularization: float) -> NDArray[np.float64]:
    """(G + regularization I)^-1, float64 (f, f), of the gram G of factors (n, f).

    Regularization must be positive where the factors are not of full rank.
    """
    gram = (factors.T @ factors).astype(np.float64)
    inverse = np.linalg.inv(gram + regularization * np.eye(len(gram)))
    return np.asarray((inverse + inverse.T) / 2, np.float64)


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
