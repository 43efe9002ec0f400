import pytest
from pydantic import Field

from engine.models import BY_NAME
from engine.models.base import Algorithm, ModelConfig, Needs
from engine.training.auto import AutoConfig
from engine.training.checks import (
    allowed,
    check_algorithm,
    check_hyperparameters,
    check_needs,
    described,
)
from engine.training.fitting import fit
from storage.exceptions import FailedPrecondition, InvalidArgument


def test_described_are_sorted_and_hold_auto():
    names = [algorithm.name for algorithm in described()]
    assert names == sorted([*BY_NAME, "auto"])


def test_check_algorithm_unknown_lists_the_known_ones():
    with pytest.raises(InvalidArgument) as caught:
        check_algorithm("word2vec")
    assert caught.value.reason == "UNKNOWN_ALGORITHM"
    assert caught.value.violations[0].field == "model.algorithm"
    assert all(name in caught.value.message for name in [*BY_NAME, "auto"])


def test_check_hyperparameters_fills_in_the_defaults():
    config = check_hyperparameters("item_knn", {"k": 7.0, "half_life_days": None})
    assert config == BY_NAME["item_knn"].config(k=7)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"neighbours": 3}, "model.hyperparameters.neighbours"),
        ({"k": 0}, "model.hyperparameters.k"),
        ({"k": 2.5}, "model.hyperparameters.k"),
        ({"k": "many"}, "model.hyperparameters.k"),
        ({"b": float("nan")}, "model.hyperparameters.b"),
        ({"similarity": "euclid"}, "model.hyperparameters.similarity"),
    ],
    ids=["unknown", "below", "fraction", "text", "nan", "not a choice"],
)
def test_check_hyperparameters_refused_names_the_allowed_ones(given, field):
    with pytest.raises(InvalidArgument) as caught:
        check_hyperparameters("item_knn", given)
    assert caught.value.reason == "INVALID_HYPERPARAMETERS"
    assert caught.value.violations[0].field == field
    assert "k (integer, at least 1, at most 2000, default 500)" in caught.value.message
    assert "similarity (one of cosine, tfidf, bm25, default bm25)" in caught.value.message


def test_check_hyperparameters_of_auto_knows_the_candidates():
    with pytest.raises(InvalidArgument) as caught:
        check_hyperparameters("auto", {"candidates": ["word2vec"]})
    assert caught.value.violations[0].field == "model.hyperparameters.candidates"
    assert check_hyperparameters("auto", {}) == AutoConfig()


def test_allowed_says_type_limits_and_default():
    class Config(ModelConfig):
        share: float | None = Field(None, gt=0, lt=1, description="")
        names: tuple[str, ...] = Field((), description="")

    assert allowed(Config) == [
        "share (number, more than 0, less than 1)",
        "names (array, default [])",
    ]


def test_check_needs_says_what_there_is_and_what_is_needed(make_data):
    few = make_data(n_users=1, each=3)
    with pytest.raises(FailedPrecondition) as caught:
        check_needs("item_knn", few)
    assert caught.value.reason == "NOT_ENOUGH_DATA"
    assert caught.value.message == (
        "item_knn needs 2 users, 2 entities and 10 interactions with positive weights;"
        " there are 1 users, 3 entities and 3 interactions."
    )


def test_check_needs_does_not_count_dislikes(make_data):
    data = make_data()
    data.weights[:] = -1
    with pytest.raises(FailedPrecondition, match="there are 0 users"):
        check_needs("auto", data)


def test_fit_refused_for_its_size_says_why(make_data):
    def never(*_):
        raise AssertionError("fitted")

    algorithm = Algorithm(
        "huge", "", ModelConfig, never, Needs(), refuse=lambda _data, _config: "needs 9 TB"
    )
    with pytest.raises(FailedPrecondition, match="needs 9 TB") as caught:
        fit(algorithm, ModelConfig(), make_data())
    assert caught.value.reason == "MODEL_TOO_LARGE"


def test_check_needs_of_enough_data_passes(make_data):
    check_needs("item_knn", make_data(), BY_NAME["item_knn"].config())
