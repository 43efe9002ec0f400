"""Clusters: segments of users by k-means, each with the entities that its members like.

Sculley, "Web-scale k-means clustering", WWW 2010 (scikit-learn's MiniBatchKMeans), over the users'
directions in the space of a truncated SVD.
"""

import warnings

import numpy as np
from pydantic import Field
from scipy import sparse
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from engine.models import svd
from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.clusters import ClusterModel
from engine.models.progress import Phase


class ClustersConfig(ModelConfig):
    """Hyperparameters of clusters."""

    n_clusters: int = Field(
        20, ge=1, le=1000, description="segments; no more are made than there are users"
    )
    n_components: int = Field(50, ge=1, le=512, description="dimensions in which users are near")
    random_state: int = Field(42, ge=0, le=2**32 - 1, description="seed")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(True, description="every positive weight counts 1")


def fit(data: Interactions, config: ClustersConfig, progress: Progress) -> ClusterModel:
    """Segments, and of each the share of its users that has an entity."""
    space = svd.fit(
        data,
        svd.SvdConfig(
            n_components=config.n_components,
            random_state=config.random_state,
            half_life_days=config.half_life_days,
            binary=config.binary,
        ),
        Phase(progress, 0, 0.5),
    )
    matrix = data.matrix(config.half_life_days, binary=config.binary)
    matrix = matrix[np.diff(matrix.indptr) > 0]
    users = space.users(matrix)
    users /= np.maximum(np.linalg.norm(users, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    progress("clustering", 0.5)
    means = MiniBatchKMeans(
        n_clusters=max(1, min(config.n_clusters, len(users))),
        batch_size=4096,
        n_init=3,
        random_state=config.random_state,
    )
    with warnings.catch_warnings():
        # Fewer different users than segments: some segments stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        segments = means.fit_predict(users)
    progress("counting members", 0.9)
    sizes = np.bincount(segments, minlength=means.n_clusters)
    members = sparse.csr_matrix(
        (1 / sizes[segments].astype(np.float32), (segments, np.arange(len(users)))),
        shape=(means.n_clusters, len(users)),
    )
    matrix.data[:] = 1
    shares = (members @ matrix).tocsr().astype(np.float32)
    shares.sort_indices()
    return ClusterModel(
        data.entity_nos,
        space.factors,
        np.ascontiguousarray(means.cluster_centers_, np.float32),
        shares,
        binary=config.binary,
        half_life_days=config.half_life_days,
    )


CLUSTERS = Algorithm(
    name="clusters",
    summary="What the users most like this one have, by k-means segments.",
    config=ClustersConfig,
    fit=fit,
    grid=tuple(ClustersConfig(n_clusters=n) for n in (10, 20, 50)),
)
