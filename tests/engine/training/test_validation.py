import numpy as np
import pytest
from scipy import sparse

from engine.models.base import Interactions
from engine.models.forms.neighbours import NeighbourMatrix
from engine.training.auto import AutoConfig
from engine.training.validation import Validation

DAY = 86400


def over(days):
    return lambda rng, n: rng.integers(0, days * DAY, n)


def test_validation_of_equal_times_is_random(make_data):
    validation = Validation.of(make_data(), AutoConfig())
    assert validation.split == "random"
    assert not validation.by_time


def test_validation_of_a_bulk_load_is_random(make_data):
    loaded = make_data(times=lambda _rng, n: np.arange(n))
    assert Validation.of(loaded, AutoConfig()).split == "random"


def test_validation_of_few_users_who_come_back_is_the_newest_of_each(make_data):
    validation = Validation.of(make_data(times=over(90)), AutoConfig())
    assert validation.split == "newest of each user"
    assert validation.by_time


def test_validation_of_few_users_with_one_sitting_is_random(make_data):
    def sittings(rng, n):
        return np.repeat(rng.integers(0, 90 * DAY, n // 15), 15) + np.tile(np.arange(15), n // 15)

    assert Validation.of(make_data(times=sittings), AutoConfig()).split == "random"


def test_validation_of_many_users_over_time_is_temporal(make_data):
    data = make_data(n_users=700, times=over(90))
    validation = Validation.of(data, AutoConfig(share=0.2))
    assert validation.split == "temporal"
    assert validation.train.times.max() < np.quantile(data.times, 0.801)


@pytest.mark.parametrize("split", ["temporal", "leave_last_out", "random"])
def test_validation_by_name(make_data, split):
    validation = Validation.of(make_data(times=over(90)), AutoConfig(split=split))
    assert validation.split == split
    assert len(validation.judged.users) > 50


def test_validation_after_a_time_takes_exactly_those(make_data):
    data = make_data(times=over(90))
    at = 70 * DAY
    validation = Validation.of(data, AutoConfig(holdout_after=at))
    assert validation.split == "holdout_after"
    assert len(validation.train) == np.count_nonzero(data.times < at)
    assert validation.judged.relevant.nnz == np.count_nonzero(data.times >= at)


def test_validation_judges_on_no_more_users_than_asked_for_and_always_the_same(make_data):
    first, again = (Validation.of(make_data(), AutoConfig(users=50)) for _ in range(2))
    assert len(first.judged.users) == 50
    assert first.judged.users.tolist() == again.judged.users.tolist()
    assert np.all(np.diff(first.judged.histories.indptr) > 0)


def test_validation_judges_on_fewer_users_where_the_catalogue_is_large(make_data, monkeypatch):
    monkeypatch.setattr("engine.training.validation._USERS", (30, 100))
    monkeypatch.setattr("engine.training.validation._SCORES", 120 * 70)
    assert len(Validation.of(make_data(n_items=120), AutoConfig()).judged.users) == 70
    assert len(Validation.of(make_data(n_items=600), AutoConfig()).judged.users) == 30
    assert len(Validation.of(make_data(n_items=60), AutoConfig()).judged.users) == 100


def test_values_are_recall_and_ndcg_together(make_data):
    validation = Validation.of(make_data(), AutoConfig())
    perfect = np.full((len(validation.judged.users), 20), -1, np.int32)
    for row in range(len(perfect)):
        wanted = validation.judged.relevant[row].indices
        perfect[row, : len(wanted)] = wanted
    assert validation.values(perfect).tolist() == pytest.approx([2.0] * len(perfect))
    assert validation.evaluation(perfect).means["recall@20"] == pytest.approx(1.0)


def test_rank_of_a_model_that_forgets_counts_the_days_since():
    # User 0 met 0 long ago (again: recently) and 1 in between; user 1 is there for the split.
    data = Interactions(
        np.array([0, 0, 0, 0, 1], np.int32),
        np.array([0, 1, 0, 4, 0], np.int32),
        np.ones(5, np.float32),
        np.array([0, 50, 90, 101, 100], np.int64) * DAY,
        np.arange(5, dtype=np.int64),
        np.arange(2, dtype=np.int64),
    )
    validation = Validation.of(data, AutoConfig(holdout_after=101 * DAY))
    assert validation.judged.ages is not None
    assert validation.judged.ages.tolist() == [10.0, 50.0]
    rows = np.zeros((5, 5), np.float32)
    rows[0, 2], rows[1, 3] = 1, 3
    full = sparse.csr_matrix(rows)
    for half_life, expected in ((None, [3, 2]), (10.0, [2, 3])):
        model = NeighbourMatrix.from_matrix(data.entity_nos, full.copy(), half_life_days=half_life)
        assert validation.rank(model)[0, :2].tolist() == expected
