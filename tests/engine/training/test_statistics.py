"""The eleven numbers of a training."""

import numpy as np
import pytest

from engine.models.base import Interactions
from engine.training.data import interactions
from engine.training.statistics import TrainingStatistics, training_statistics
from storage.training_data import TrainingArrays

NAMES = {
    "n_users", "n_items", "n_interactions", "sparsity", "density", "avg_interactions_per_user",
    "avg_interactions_per_item", "mean_rating", "std_rating", "min_rating", "max_rating",
}  # fmt: skip


def made(
    users: list[int], entities: list[int], weights: list[float], vectors: list[int] | None = None
) -> Interactions:
    arrays = TrainingArrays(
        np.array(users, np.int64),
        np.array(entities, np.int64),
        np.array(weights, np.float32),
        np.arange(len(users), dtype=np.int64),
    )
    if vectors is None:
        return interactions(arrays)
    found = (np.array(vectors, np.int64), np.ones((len(vectors), 2), np.float16))
    return interactions(
        TrainingArrays(
            arrays.user_keys_of_rows, arrays.entity_nos, arrays.weights, arrays.times, found
        )
    )


def test_statistics_of_a_small_matrix() -> None:
    found = training_statistics(made([1, 1, 2, 2], [10, 20, 10, 10], [1.0, 2.0, 3.0, -2.0]))
    assert set(found.as_dict()) == NAMES
    assert (found.n_users, found.n_items, found.n_interactions) == (2, 2, 4)
    assert (found.density, found.sparsity) == (0.75, 0.25)
    assert (found.avg_interactions_per_user, found.avg_interactions_per_item) == (2.0, 2.0)
    assert (found.mean_rating, found.min_rating, found.max_rating) == (1.0, -2.0, 3.0)
    assert found.std_rating == pytest.approx(np.std([1, 2, 3, -2]))


def test_statistics_of_nothing_are_zeros() -> None:
    assert training_statistics(made([], [], [])) == TrainingStatistics()


def test_entities_without_an_interaction_do_not_count() -> None:
    found = training_statistics(made([1, 2], [10, 20], [1.0, 1.0], vectors=[20, 30]))
    assert (found.n_items, found.density) == (2, 0.5)


@pytest.mark.parametrize("apart", [1, 1 << 40], ids=["dense", "far apart"])
def test_users_and_entities_are_numbered_in_order(apart: int) -> None:
    data = made([7, -5, 7], [3 * apart, 9 * apart, 5 * apart], [1.0, 2.0, 3.0])
    assert data.user_keys.tolist() == [-5, 7]
    assert data.users.tolist() == [1, 0, 1]
    assert data.entity_nos.tolist() == [3 * apart, 5 * apart, 9 * apart]
    assert data.items.tolist() == [0, 2, 1]
    assert [a.dtype.name for a in (data.users, data.items)] == ["int32", "int32"]
    assert [a.dtype.name for a in (data.entity_nos, data.user_keys)] == ["int64", "int64"]


def test_vectors_stand_at_their_entities_and_bring_new_ones() -> None:
    data = made([1, 1], [10, 20], [1.0, 1.0], vectors=[30, 20])
    assert data.entity_nos.tolist() == [10, 20, 30]
    assert data.vectors is not None
    assert data.vectors.tolist() == [[0, 0], [1, 1], [1, 1]]
    assert data.items.tolist() == [0, 1]
