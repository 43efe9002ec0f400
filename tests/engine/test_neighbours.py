"""Item-to-item neighbours against the plain formula."""

import numpy as np
import pytest

from engine.neighbours import cosine_neighbours

USERS = np.array([0, 0, 0, 1, 1, 2, 2, 3], np.int32)
ENTITIES = np.array([10, 20, 30, 10, 20, 20, 40, 90], np.int64)
WEIGHTS = np.array([1, 1, 1, 5, 2, 3, 1, 1], np.float32)


def test_neighbours_are_the_cosines_of_logarithmic_weights() -> None:
    dense = np.zeros((4, 91))
    dense[USERS, ENTITIES] = np.log1p(WEIGHTS)
    norms = np.linalg.norm(dense, axis=0)
    for number, others, scores in cosine_neighbours(USERS, ENTITIES, WEIGHTS):
        expected = [dense[:, number] @ dense[:, o] / norms[number] / norms[o] for o in others]
        assert scores == pytest.approx(expected)
        assert scores == sorted(scores, reverse=True)


def test_neighbours_leave_out_oneself_and_the_lonely() -> None:
    found = {no: others for no, others, _ in cosine_neighbours(USERS, ENTITIES, WEIGHTS)}
    assert set(found) == {10, 20, 30, 40}
    assert all(no not in others for no, others in found.items())
    assert found[40] == [20]


def test_neighbours_are_cut_to_k() -> None:
    rows = list(cosine_neighbours(USERS, ENTITIES, WEIGHTS, k=1))
    assert [len(others) for _, others, _ in rows] == [1, 1, 1, 1]


@pytest.mark.parametrize("weight", [None, 0.0, -1.0], ids=["empty", "zero", "negative"])
def test_neighbours_of_nothing_positive_are_none(weight: float | None) -> None:
    count = 0 if weight is None else 2
    rows = cosine_neighbours(
        np.zeros(count, np.int32),
        np.arange(count, dtype=np.int64),
        np.full(count, weight or 0.0, np.float32),
    )
    assert list(rows) == []
