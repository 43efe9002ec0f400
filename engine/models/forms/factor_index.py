"""Inverted lists over item factors: the best inner products without looking at every entity.

Sivic and Zisserman, "Video Google", ICCV 2003; Jegou, Douze, Schmid, "Product quantization for
nearest neighbor search", PAMI 2011, section 4 (here without quantization: scores are exact).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.models.forms.history import wanted

INDEX_FROM = 100_000
"""Entities from which on a search looks into lists; below, one product with all is fast enough."""

_ENTITIES_A_LIST = 250
_SAMPLE_A_LIST = 40
_BLOCK = 65_536
_LOOKED_AT = 0.03
_LEAST_LOOKED_AT = 20_000
_SEED = 42


@dataclass(frozen=True, slots=True)
class FactorIndex:
    """Lists of entities whose factors are near one another, each list contiguous in memory.

    A search takes the lists in the order of what they promise, the product with the list's mean
    plus how far products within it spread, until it has looked at enough entities; it scores those
    exactly. Arrays may lie in a memory map: only the pages of the lists that are looked at are
    read.

    Attributes:
        means: float32 (lists, f).
        spreads: float32 (lists,), root mean square of a factor's distance to the mean.
        starts: int64 (lists + 1,), where each list begins in the two arrays below, and the end.
        places: int32 (m,), the model's places, list by list; without rows of zeros.
        vectors: float32 (m, f), their factors.
    """

    means: NDArray[np.float32]
    spreads: NDArray[np.float32]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, factors: NDArray[np.float32], *, entities_a_list: int = _ENTITIES_A_LIST) -> Self:
        """An index of factors (n, f); rows of zeros are left out, which score nothing."""
        # Workers open indexes and never make one: they are not to load scikit-learn.
        from sklearn.cluster import MiniBatchKMeans  # noqa: PLC0415
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

        places = np.flatnonzero(factors.any(axis=1)).astype(np.int32)
        if not len(places):
            places = np.zeros(1, np.int32)  # k-means wants one; what scores nothing is not shown
        lists = max(1, len(places) // entities_a_list)
        draw = np.random.default_rng(_SEED)
        sample = draw.choice(places, min(len(places), lists * _SAMPLE_A_LIST), replace=False)
        kmeans = MiniBatchKMeans(lists, batch_size=4096, n_init=1, max_iter=10, random_state=_SEED)
        with warnings.catch_warnings():
            # Fewer different rows than lists: some lists stay empty.
            warnings.simplefilter("ignore", ConvergenceWarning)
            kmeans.fit(factors[np.sort(sample)])
        centres = kmeans.cluster_centers_.astype(np.float32)
        half = np.square(centres).sum(axis=1) / 2
        nearest = np.empty(len(places), np.int32)
        for at in range(0, len(places), _BLOCK):
            block = factors[places[at : at + _BLOCK]]
            nearest[at : at + _BLOCK] = (block @ centres.T - half).argmax(axis=1)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=lists)
        sizes = sizes[sizes > 0]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        places = places[order]
        vectors = factors[places]
        means = np.asarray(np.add.reduceat(vectors, starts[:-1]) / sizes[:, None], dtype=np.float32)
        squares = np.add.reduceat(np.einsum("ij,ij->i", vectors, vectors), starts[:-1]) / sizes
        apart = np.maximum(squares - np.square(means).sum(axis=1), 0) / vectors.shape[1]
        return cls(means, np.sqrt(apart).astype(np.float32), starts, places, vectors)

    def search(self, query: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Places and scores of what the lists that promise most hold, in no order.

        Args:
            query: (f,).
        """
        promise = self.means @ query + np.linalg.norm(query) * self.spreads
        order = np.argsort(-promise)
        enough = max(_LEAST_LOOKED_AT, int(_LOOKED_AT * len(self.places)))
        sizes = np.diff(self.starts)
        last = int(np.searchsorted(np.cumsum(sizes[order]), enough))
        # In the order of memory: what lies side by side is read at once.
        looked_at = [
            slice(*self.starts[number : number + 2]) for number in np.sort(order[: last + 1])
        ]
        scores = [self.vectors[entries] @ query for entries in looked_at]
        return (
            np.concatenate([self.places[entries] for entries in looked_at]),
            np.concatenate(scores),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that has to be kept, by names that begin with "index_"."""
        return {f"{_PREFIX}{name}": getattr(self, name) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_places: int) -> Self | None:
        """The index again; None where none was kept.

        Args:
            n_places: places of the model, 0 to n_places - 1.

        Raises:
            ValueError: arrays are missing, or do not fit together.
        """
        if not any(name.startswith(_PREFIX) for name in arrays):
            return None
        index = cls(*wanted(arrays, *(f"{_PREFIX}{name}" for name in _NAMES)))
        lists, size = len(index.starts) - 1, len(index.places)
        if (
            lists < 1
            or (index.starts.ndim, index.starts.dtype.kind) != (1, "i")
            or index.places.ndim != 1
            or index.spreads.shape != (lists,)
            or index.vectors.ndim != 2
            or len(index.vectors) != size
            or index.means.shape != (lists, index.vectors.shape[1])
        ):
            raise ValueError("index has other shapes")
        if index.starts[0] != 0 or index.starts[-1] != size or (np.diff(index.starts) < 0).any():
            raise ValueError("lists of the index do not follow one another")
        if size and not 0 <= index.places.min() <= index.places.max() < n_places:
            raise ValueError("places of the index are not the model's")
        if np.bincount(index.places, minlength=1).max() > 1:
            raise ValueError("a place lies in two lists of the index")
        return index


_PREFIX = "index_"
_NAMES = tuple(field.name for field in fields(FactorIndex))
