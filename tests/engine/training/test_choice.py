"""Which contender is taken: the simplest that noise cannot tell from the best."""

import numpy as np
from numpy.typing import NDArray

from engine.models.item_knn import ItemKnnConfig
from engine.training.choice import NOISE, choose
from engine.training.race import Contender


def contender(name: str, values: NDArray[np.float64]) -> Contender:
    return Contender(name, ItemKnnConfig(), np.zeros((len(values), 20), np.int32), values, 1.0)


VALUES = np.random.default_rng(5).random(2000)


def test_the_best_wins_where_it_is_clearly_better() -> None:
    won, why = choose([contender("item_knn", VALUES), contender("spectral", 1.1 * VALUES)])
    assert won.algorithm == "spectral"
    assert "best score" in why


def test_a_gain_within_noise_does_not_pay_for_a_more_complicated_model() -> None:
    better = VALUES * (1 + NOISE / 2)  # for every single user, so that the interval is narrow
    won, why = choose([contender("spectral", VALUES), contender("hybrid", better)])
    assert won.algorithm == "spectral"
    assert "simpler than hybrid" in why


def test_an_interval_that_reaches_zero_does_not_either() -> None:
    rng = np.random.default_rng(6)
    lucky = VALUES + rng.normal(0.02, 2.0, len(VALUES))
    won, _ = choose([contender("popularity", VALUES), contender("ease", lucky)])
    assert won.algorithm == "popularity"


def test_of_equally_simple_ones_the_best_wins() -> None:
    won, _ = choose([contender("spectral", VALUES), contender("ease", 1.001 * VALUES)])
    assert won.algorithm == "ease"
