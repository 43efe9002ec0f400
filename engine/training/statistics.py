"""What a version was trained on, in eleven numbers that are kept with it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse

from engine.models.base import Interactions


@dataclass(frozen=True, slots=True)
class TrainingStatistics:
    """Counts and weights of a training's interactions; zeros where there are none.

    Attributes:
        n_users, n_items: with an interaction.
        n_interactions: repeated ones count again.
        sparsity: share of the user-entity pairs without an interaction, 0 to 1.
        density: share of those with one; sparsity and density are 1 together.
        avg_interactions_per_user, avg_interactions_per_item: n_interactions over each count.
        mean_rating, std_rating, min_rating, max_rating: of the weights; the deviation is that of
            the whole population.
    """

    n_users: int = 0
    n_items: int = 0
    n_interactions: int = 0
    sparsity: float = 0.0
    density: float = 0.0
    avg_interactions_per_user: float = 0.0
    avg_interactions_per_item: float = 0.0
    mean_rating: float = 0.0
    std_rating: float = 0.0
    min_rating: float = 0.0
    max_rating: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name, JSON-ready."""
        return asdict(self)


def training_statistics(data: Interactions) -> TrainingStatistics:
    """The numbers of some interactions."""
    count = len(data)
    if not count:
        return TrainingStatistics()
    users = int(np.count_nonzero(np.bincount(data.users)))
    items = int(np.count_nonzero(np.bincount(data.items)))
    # The conversion sums repeated pairs: ten times faster than to look for them otherwise.
    pairs = sparse.coo_matrix((np.ones(count, np.int32), (data.users, data.items))).tocsr()
    density = pairs.nnz / (users * items)
    weights = data.weights.astype(np.float64)
    return TrainingStatistics(
        n_users=users,
        n_items=items,
        n_interactions=count,
        sparsity=1.0 - density,
        density=density,
        avg_interactions_per_user=count / users,
        avg_interactions_per_item=count / items,
        mean_rating=float(weights.mean()),
        std_rating=float(weights.std()),
        min_rating=float(weights.min()),
        max_rating=float(weights.max()),
    )
