"""Trending: sums of weights in which age halves; the same for everybody.

The weights are those of forward decay (Cormack, Shkapenyuk, Srivastava, Xu, ICDE 2009), seen from
the newest interaction: the order of the entities is the same at any later time.
"""

import numpy as np
from pydantic import Field

from engine.models.base import SECONDS_A_DAY, Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.scores import ItemScores


class TrendingConfig(ModelConfig):
    """Hyperparameters of trending."""

    half_life_days: float = Field(7.0, gt=0, le=36_500, description="age at which a weight halves")
    binary: bool = Field(False, description="every interaction counts 1, its sign kept")


def fit(data: Interactions, config: TrendingConfig, progress: Progress) -> ItemScores:
    """Decayed sums of each entity's weights."""
    progress("counting", 0.0)
    weights = np.sign(data.weights) if config.binary else data.weights
    newest = data.times.max() if len(data) else 0
    decay = np.exp2((data.times - newest) / (config.half_life_days * SECONDS_A_DAY))
    sums = np.bincount(data.items, weights=weights * decay, minlength=data.n_items)
    return ItemScores(data.entity_nos, sums.astype(np.float32))


TRENDING = Algorithm(
    name="trending",
    summary="The entities with the most weight of late, the same for everybody.",
    config=TrendingConfig,
    fit=fit,
    grid=tuple(TrendingConfig(half_life_days=days) for days in (1, 7, 30)),
)
