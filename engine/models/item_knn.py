"""Item-kNN: entities that the same users liked, by cosine, tf-idf or BM25 (`implicit`)."""

from typing import Literal

import numpy as np
from implicit.nearest_neighbours import ItemItemRecommender, bm25_weight, tfidf_weight
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.neighbours import NeighbourMatrix, keep_top

_REFRESHED_AT_ONCE = 1000


class ItemKnnConfig(ModelConfig):
    """Hyperparameters of item_knn."""

    similarity: Literal["cosine", "tfidf", "bm25"] = Field(
        "bm25", description="how two entities are compared"
    )
    k: int = Field(500, ge=1, le=2000, description="neighbours kept of each entity")
    k1: float = Field(100.0, ge=0, le=10_000, description="BM25: saturation of weights")
    b: float = Field(0.5, ge=0, le=1, description="BM25: how much the size of a row counts")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(True, description="every positive weight counts 1")


def fit(data: Interactions, config: ItemKnnConfig, progress: Progress) -> NeighbourMatrix:
    """Neighbours from the product of the weighted matrix with itself."""
    progress("counting", 0.1)
    by_user = _weighted(data.matrix(config.half_life_days, binary=config.binary), config)
    # implicit keeps each entity among its own neighbours, and its own place must not count.
    knn = ItemItemRecommender(K=config.k + 1, num_threads=0)
    knn.fit(by_user, show_progress=False)
    progress("keeping neighbours", 0.9)
    found = knn.similarity.tocoo()
    others = (found.row != found.col) & (found.data != 0)
    rows = sparse.csr_matrix(
        (found.data[others].astype(np.float32), (found.row[others], found.col[others])),
        shape=found.shape,
    )
    return NeighbourMatrix.from_matrix(
        data.entity_nos,
        keep_top(rows, config.k),
        binary=config.binary,
        half_life_days=config.half_life_days,
    )


def refresh(
    data: Interactions, config: ItemKnnConfig, places: NDArray[np.int32], progress: Progress
) -> sparse.csr_matrix:
    """The neighbours of some entities, by the weights of today."""
    progress("counting", 0.1)
    by_user = _weighted(data.matrix(config.half_life_days, binary=config.binary), config)
    by_entity = by_user.T.tocsr()
    blocks: list[sparse.csr_matrix] = []
    for start in range(0, len(places), _REFRESHED_AT_ONCE):
        some = places[start : start + _REFRESHED_AT_ONCE]
        found = (by_entity[some] @ by_user).tocoo()
        others = (some[found.row] != found.col) & (found.data != 0)
        rows = sparse.csr_matrix(
            (found.data[others].astype(np.float32), (found.row[others], found.col[others])),
            shape=found.shape,
        )
        blocks.append(keep_top(rows, config.k))
        progress("keeping neighbours", min(1.0, (start + len(some)) / len(places)))
    stacked: sparse.csr_matrix = sparse.vstack(blocks, format="csr")
    return stacked


def _weighted(matrix: sparse.csr_matrix, config: ItemKnnConfig) -> sparse.csr_matrix:
    """Users by entities, float64 CSR, such that W^T W are the similarities."""
    by_entity = matrix.T.tocsr().astype(np.float64)
    if config.similarity == "bm25" and by_entity.nnz:
        by_entity = bm25_weight(by_entity, config.k1, config.b).tocsr()
    elif config.similarity == "tfidf":
        by_entity = tfidf_weight(by_entity).tocsr()
    # A user of nearly all entities counts nothing, rather than against them.
    by_entity.data = np.maximum(by_entity.data, 0)
    if config.similarity != "bm25":
        owners = np.repeat(np.arange(by_entity.shape[0]), np.diff(by_entity.indptr))
        lengths = np.sqrt(np.bincount(owners, by_entity.data**2, by_entity.shape[0]))
        lengths[lengths == 0] = 1
        by_entity.data /= lengths[owners]
    return by_entity.T.tocsr()


ITEM_KNN = Algorithm(
    name="item_knn",
    summary="Entities that the same users liked, by cosine, tf-idf or BM25.",
    config=ItemKnnConfig,
    fit=fit,
    refresh=refresh,
    grid=(
        ItemKnnConfig(),
        ItemKnnConfig(similarity="cosine"),
        ItemKnnConfig(similarity="tfidf"),
    ),
)
