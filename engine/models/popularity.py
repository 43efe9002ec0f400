"""Popularity: how many users an entity has. The same for everybody; the mark to beat."""

import numpy as np

from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.scores import ItemScores


class PopularityConfig(ModelConfig):
    """popularity has no hyperparameters."""


def fit(data: Interactions, _config: PopularityConfig, progress: Progress) -> ItemScores:
    """Users of each entity whose weights for it sum to more than nothing."""
    progress("counting", 0.0)
    users = np.bincount(data.matrix(binary=True).indices, minlength=data.n_items)
    return ItemScores(data.entity_nos, users.astype(np.float32))


POPULARITY = Algorithm(
    name="popularity",
    summary="The entities with the most users, the same for everybody.",
    config=PopularityConfig,
    fit=fit,
)
