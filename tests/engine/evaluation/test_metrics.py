import numpy as np
import pytest
from scipy import sparse

from engine.evaluation.metrics import hits, list_metrics, ranking_metrics


def lists(*rows):
    return np.array(rows, np.int32)


def matrix(rows, n_items):
    dense = np.zeros((len(rows), n_items), np.float32)
    for user, items in enumerate(rows):
        dense[user, items] = 1
    return sparse.csr_matrix(dense)


def test_hits_in_short_list_pass_over_the_padding():
    found = hits(lists([2, -1], [3, 0]), matrix([[2, 3], [0]], 4))
    assert found.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("recall@1", [0.0]),
        ("recall@3", [2 / 3]),
        ("precision@3", [2 / 3]),
        ("mrr@3", [1 / 2]),
        ("map@3", [(1 / 2 + 2 / 3) / 3]),
        ("hit_rate@1", [0.0]),
        ("hit_rate@2", [1.0]),
        ("ndcg@3", [(1 / np.log2(3) + 1 / 2) / (1 + 1 / np.log2(3) + 1 / 2)]),
        ("ndcg@2", [(1 / np.log2(3)) / (1 + 1 / np.log2(3))]),
    ],
)
def test_ranking_metric_of_known_list(name, expected):
    values = ranking_metrics(lists([5, 1, 3]), matrix([[1, 3, 4]], 6), (1, 2, 3))
    assert values[name].tolist() == pytest.approx(expected)


def test_ndcg_of_fewer_relevant_than_k_can_be_one():
    values = ranking_metrics(lists([1, 0, 2]), matrix([[1]], 3), (3,))
    assert values["ndcg@3"].tolist() == [1.0]


def test_user_without_relevant_items_has_zeros():
    values = ranking_metrics(lists([1, 0]), matrix([[]], 3), (2,))
    assert {name: value.tolist() for name, value in values.items()} == {
        name: [0.0]
        for name in ("recall@2", "precision@2", "ndcg@2", "mrr@2", "map@2", "hit_rate@2")
    }


TRAIN = matrix([[0, 1], [0, 1], [0, 2], [0, 3]], 5)


def test_coverage_counts_each_item_once():
    assert list_metrics(lists([0, 1], [0, 2]), TRAIN, (2,))["coverage@2"] == 3 / 5


def test_novelty_is_mean_self_information():
    # Item 0 is everybody's: no bit; item 1 half of the users': one bit.
    assert list_metrics(lists([0, 1]), TRAIN, (2,))["novelty@2"] == 0.5


def test_novelty_of_an_item_of_nobody_is_finite():
    assert list_metrics(lists([4]), TRAIN, (1,))["novelty@1"] == 3.0


def test_popularity_bias_of_the_training_mix_is_one():
    # The interactions' mean popularity: (4 * 4 + 2 * 2 + 1 + 1) / 8.
    value = list_metrics(lists([0]), TRAIN, (1,))["popularity_bias@1"]
    assert value == pytest.approx(4 / (22 / 8))


def test_diversity_is_one_less_the_mean_cosine():
    # 0 with 1: two users in common of four and two; 0 with 2: one of four and one; 1 with 2: none.
    cosines = [2 / np.sqrt(8), 1 / 2, 0]
    value = list_metrics(lists([0, 1, 2]), TRAIN, (3,))["diversity@3"]
    assert value == pytest.approx(1 - np.mean(cosines))


def test_diversity_of_items_of_nobody_is_one():
    assert list_metrics(lists([4, 3]), TRAIN, (2,))["diversity@2"] == pytest.approx(1.0)


def test_list_metrics_of_empty_lists_are_zero():
    assert set(list_metrics(lists([-1, -1]), TRAIN, (2,)).values()) == {0.0}
