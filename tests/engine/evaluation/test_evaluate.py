import numpy as np
import pytest
from scipy import sparse

from engine.evaluation.evaluate import Judged, evaluate
from engine.models.base import Cancelled
from engine.models.forms.neighbours import NeighbourMatrix

NOS = np.arange(5, dtype=np.int64)


def matrix(rows):
    dense = np.zeros((len(rows), 5), np.float32)
    for user, items in enumerate(rows):
        dense[user, items] = 1
    return sparse.csr_matrix(dense)


def model(**settings):
    """Whoever has 0 is told 1, 2, 3 in this order; whoever has 4 is told 3."""
    rows = np.zeros((5, 5), np.float32)
    rows[0, [1, 2, 3]] = 3, 2, 1
    rows[4, 3] = 1.5
    return NeighbourMatrix.from_matrix(NOS, sparse.csr_matrix(rows), **settings)


def test_evaluate_masks_what_users_had():
    found = evaluate(model(), matrix([[0, 1]]), matrix([[1, 2]]), (1, 2))
    assert found.means["recall@1"] == 1.0
    assert found.means["precision@2"] == 0.5


def test_evaluate_leaves_out_users_with_nothing_to_find():
    found = evaluate(model(), matrix([[0], [0], [0]]), matrix([[1], [], [0]]), (2,))
    assert found.users.tolist() == [0]
    assert found.per_user["recall@2"].tolist() == [1.0]


def test_evaluate_some_users_only():
    found = evaluate(model(), matrix([[0], [0]]), matrix([[1], [4]]), (2,), np.array([1]))
    assert found.metrics["recall@2"] == 0.0
    assert found.users.tolist() == [1]


def test_evaluate_counts_nothing_for_users_of_whom_the_model_knows_nothing():
    # All scores are equal, so any list would be chance.
    found = evaluate(model(), matrix([[]]), matrix([[0]]), (2,))
    assert found.means["hit_rate@2"] == 0.0
    assert found.means["coverage@2"] == 0.0


def test_evaluate_gives_an_interval_for_each_metric_of_users():
    found = evaluate(model(), matrix([[0]] * 9), matrix([[1]] * 5 + [[4]] * 4), (1,))
    for name in found.per_user:
        low, mean, high = (found.metrics[name + end] for end in (".low", "", ".high"))
        assert low <= mean <= high
    assert found.metrics["recall@1.low"] < found.metrics["recall@1.high"]


def test_evaluate_with_nobody_to_judge_on_is_zero():
    found = evaluate(model(), matrix([[0]]), matrix([[]]), (2,))
    assert found.means["recall@2"] == 0.0


def test_evaluate_with_more_places_than_entities():
    found = evaluate(model(), matrix([[0]]), matrix([[1]]), (20,))
    assert found.means["recall@20"] == 1.0


def test_evaluate_stops_when_cancelled():
    def stop(_phase, _share):
        raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(model(), matrix([[0]]), matrix([[1]]), (2,), progress=stop)


def test_rank_of_many_users_is_the_same_in_blocks(monkeypatch):
    judged = Judged.of(matrix([[0], [4], [0, 4]]), matrix([[1], [2], [1]]))
    whole = judged.rank(model(), 3)
    monkeypatch.setattr("engine.evaluation.evaluate._CELLS", 5)
    assert judged.rank(model(), 3).tolist() == whole.tolist()
    assert whole.tolist() == [[1, 2, 3], [3, -1, -1], [1, 3, 2]]


@pytest.mark.parametrize("n_items", [3, 300, 5000], ids=["few", "some", "many"])
@pytest.mark.parametrize("distinct", [4, 10**6], ids=["ties", "no ties"])
def test_rank_is_the_head_of_a_full_sort(n_items, distinct):
    rng = np.random.default_rng(8)
    scores = rng.integers(-distinct, distinct, (40, n_items)).astype(np.float32)
    scores[7] = 0

    class Given:
        def score_all(self, _histories):
            return scores

    nothing = sparse.csr_matrix((40, n_items), dtype=np.float32)
    expected = [
        [int(item) for item in np.lexsort((np.arange(n_items), -row))[:20] if row[item] > 0]
        for row in scores
    ]
    ranked = Judged(nothing, nothing, np.arange(40)).rank(Given(), 20)
    assert [[item for item in row if item >= 0] for row in ranked.tolist()] == expected


def test_rank_served_counts_ages():
    judged = Judged(
        matrix([[0, 4]]), matrix([[1]]), np.array([0]), np.array([40.0, 0.0], np.float32)
    )
    forgetful = model(half_life_days=10.0)
    assert judged.rank_served(forgetful, 3).tolist() == [[3, 1, 2]]
    assert judged.rank(forgetful, 3).tolist() == [[1, 3, 2]]


def test_rank_served_of_a_model_without_ages_is_rank():
    judged = Judged.of(matrix([[0], [4], [0, 4]]), matrix([[1], [2], [1]]))
    assert judged.rank_served(model(), 3).tolist() == judged.rank(model(), 3).tolist()
