import numpy as np
import pytest

from engine.evaluation.bootstrap import difference, intervals


def test_interval_covers_the_mean_about_as_the_normal_one():
    values = np.random.default_rng(1).normal(3, 2, 2000)
    found = intervals({"x": values})["x"]
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_intervals_are_the_same_for_the_same_seed():
    values = {"x": np.random.default_rng(1).random(50)}
    assert intervals(values) == intervals(values)
    assert intervals(values) != intervals(values, seed=1)


def test_intervals_of_many_users_in_pieces_agree_with_those_in_one(monkeypatch):
    values = {"x": np.random.default_rng(1).random(500)}
    whole = intervals(values)
    monkeypatch.setattr("engine.evaluation.bootstrap._CELLS", 500 * 7)
    assert intervals(values)["x"].low == pytest.approx(whole["x"].low, rel=1e-9)


def test_intervals_of_nobody_are_zero():
    assert intervals({"x": np.empty(0)})["x"].high == 0
    assert intervals({}) == {}


def test_difference_is_narrower_than_the_intervals_of_each():
    rng = np.random.default_rng(2)
    hard = rng.random(400)
    found = difference(hard + 0.02 + rng.normal(0, 0.05, 400), hard)
    assert 0 < found.low < found.high < 0.04
    alone = intervals({"x": hard})["x"]
    assert alone.high - alone.low > found.high - found.low
