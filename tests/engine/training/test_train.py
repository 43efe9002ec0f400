import pytest

from engine.models.base import Cancelled
from engine.training.report import report_table
from engine.training.train import evaluate, train
from storage.exceptions import FailedPrecondition, InvalidArgument


def test_train_without_validation_measures_nothing(make_data):
    phases = []
    trained = train("item_knn", {"k": 20}, make_data(), lambda p, s: phases.append((p, s)))
    assert trained.metrics == {}
    assert trained.report is None
    assert trained.algorithm == "item_knn"
    assert trained.hyperparameters["k"] == 20
    assert trained.hyperparameters["similarity"] == "bm25"
    assert phases[0] == ("counting", 0.1)


def test_train_with_validation_measures(make_data):
    shares = []
    trained = train("item_knn", {}, make_data(), lambda _p, s: shares.append(s), validate=True)
    assert 0 < trained.metrics["ndcg@20.low"] < trained.metrics["ndcg@20"] < 1
    assert shares == sorted(shares)


def test_train_with_validation_of_too_little_to_split_measures_nothing(make_data):
    trained = train("item_knn", {}, make_data(n_users=4, each=3), validate=True)
    assert trained.metrics == {}


def test_train_is_the_same_twice(make_data):
    one, two = (train("item_knn", {}, make_data()).model for _ in range(2))
    assert all((one.arrays()[name] == two.arrays()[name]).all() for name in one.arrays())


def test_train_auto_reports(make_data):
    trained = train("auto", {"candidates": ["item_knn"], "seconds": 60}, make_data())
    assert trained.algorithm == "item_knn"
    assert trained.report["budget_seconds"] == 60
    text = report_table(trained.report)
    assert text.count("**chosen**") == 1
    assert trained.report["chosen"]["why"] in text


@pytest.mark.parametrize(
    ("algorithm", "settings", "reason"),
    [
        ("word2vec", {}, "UNKNOWN_ALGORITHM"),
        ("item_knn", {"k": -1}, "INVALID_HYPERPARAMETERS"),
        ("auto", {"seconds": 0}, "INVALID_HYPERPARAMETERS"),
    ],
)
def test_train_refuses_what_it_does_not_know(make_data, algorithm, settings, reason):
    with pytest.raises(InvalidArgument) as caught:
        train(algorithm, settings, make_data())
    assert caught.value.reason == reason


@pytest.mark.parametrize("algorithm", ["item_knn", "auto"])
def test_train_refuses_too_little_data(make_data, algorithm):
    with pytest.raises(FailedPrecondition) as caught:
        train(algorithm, {}, make_data(n_users=1, each=3))
    assert caught.value.reason == "NOT_ENOUGH_DATA"


def test_train_stops_when_cancelled(make_data):
    def stop(_phase, _share):
        raise Cancelled

    with pytest.raises(Cancelled):
        train("item_knn", {}, make_data(), stop)


@pytest.mark.parametrize("split", ["temporal", "leave_last_out", "random"])
def test_evaluate_measures_at_each_k(make_data, split):
    data = make_data(times=lambda rng, n: rng.integers(0, 90 * 86400, n))
    found = evaluate("item_knn", {}, data, split, (5, 30))
    assert 0 < found.means["recall@5"] < found.means["recall@30"] < 1
    assert len(found.users) > 100


def test_evaluate_refuses_an_unknown_split(make_data):
    with pytest.raises(InvalidArgument, match="temporal, leave_last_out, random"):
        evaluate("item_knn", {}, make_data(), "weekly")


def test_evaluate_of_auto_measures_the_winner(make_data):
    found = evaluate("auto", {"candidates": ["item_knn"]}, make_data(), "random")
    assert found.means["ndcg@20"] > 0.2


def test_evaluate_of_equal_times_by_time_has_nothing_to_learn_from(make_data):
    with pytest.raises(FailedPrecondition, match="there are 0 users"):
        evaluate("item_knn", {}, make_data(), "temporal")
