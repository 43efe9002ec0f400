import numpy as np
import pytest
from pydantic import ValidationError

from engine.models import BY_NAME
from engine.models.artefact import open_artefact, write_artefact
from engine.models.base import Cancelled, no_progress
from engine.models.forms import NeighbourMatrix
from storage.exceptions import InvalidArgument
from tests.engine.models.planted import ITEMS, group_of, history, planted, recall

IMPERSONAL = {"popularity", "trending"}
NOBODY = np.empty(0, np.int32)
FOR_A_SMALL_WORLD = {
    # Few steps at the default rate leave factors of 160 users near where they began.
    "bpr": {"factors": 16, "iterations": 300},
    # The defaults take more factors than the world has structure.
    "svd": {"n_components": 8},
}
DATA, HELD_OUT = planted()
TRAIN = DATA.matrix()


@pytest.fixture(scope="module", params=list(BY_NAME))
def trained(request):
    """The name of an algorithm and its model of the planted world."""
    algorithm = BY_NAME[request.param]
    config = algorithm.config.model_validate(FOR_A_SMALL_WORLD.get(request.param, {}))
    return request.param, algorithm.fit(DATA, config, no_progress)


@pytest.fixture(scope="module")
def popularity() -> float:
    algorithm = BY_NAME["popularity"]
    return recall(algorithm.fit(DATA, algorithm.config(), no_progress), TRAIN, HELD_OUT)


def test_algorithm_finds_the_planted_groups(trained, popularity):
    name, model = trained
    if name in IMPERSONAL:
        pytest.skip("says the same to everybody")

    assert recall(model, TRAIN, HELD_OUT) > popularity + 0.15


def test_algorithm_answers_a_new_user_with_their_group(trained):
    name, model = trained
    liked = [1, 5, 9]

    answer = model.top(history(liked), 10, np.array(liked, np.int32))

    assert len(answer.items) == 10
    assert np.all(np.isfinite(answer.scores))
    assert not set(liked) & set(answer.items.tolist())
    assert ITEMS - 1 not in answer.items or name == "content"  # nobody has that one
    if name not in IMPERSONAL:
        assert (group_of(answer.items) == group_of(1)).mean() >= 0.7
        for places in answer.because:
            assert set(places) <= {0, 1, 2}


@pytest.mark.parametrize("items", [[], [ITEMS - 1]], ids=["nothing", "what nobody has"])
def test_algorithm_of_a_history_that_says_nothing(trained, items):
    _, model = trained

    answer = model.top(history(items), 10, NOBODY)

    assert len(answer.items) <= 10
    assert np.all(np.isfinite(answer.scores))


def test_algorithm_comes_back_from_its_artefact(trained, tmp_path):
    _, model = trained
    write_artefact(model, tmp_path / "model", {})

    opened = open_artefact(tmp_path / "model").model

    actual, expected = (m.top(history([2, 30]), 10, NOBODY) for m in (opened, model))
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-4)


@pytest.mark.parametrize("name", BY_NAME)
def test_algorithm_describes_itself(name):
    algorithm = BY_NAME[name]
    schema = algorithm.config.model_json_schema()

    assert algorithm.name == name
    assert algorithm.summary.endswith(".")
    assert schema["additionalProperties"] is False
    for field in schema["properties"].values():
        assert field.get("description")
        assert "default" in field
    for config in algorithm.grid:
        assert isinstance(config, algorithm.config)
        assert algorithm.config.model_validate(config.model_dump()) == config
    assert algorithm.refuse(DATA, algorithm.config()) is None


@pytest.mark.parametrize("name", BY_NAME)
def test_algorithm_refuses_unknown_hyperparameters(name):
    with pytest.raises(ValidationError, match="no_such_setting"):
        BY_NAME[name].config.model_validate({"no_such_setting": 1})


@pytest.mark.parametrize("name", BY_NAME)
def test_algorithm_is_cancelled_by_its_progress(name):
    algorithm = BY_NAME[name]
    told = 0

    def stop(_phase: str, share: float) -> None:
        nonlocal told
        told += 1
        assert 0 <= share <= 1
        raise Cancelled

    with pytest.raises(Cancelled):
        algorithm.fit(DATA, algorithm.config(), stop)
    assert told == 1


@pytest.mark.parametrize(("name", "most"), [("als", 3), ("bpr", 3)])
def test_iterations_are_cancelled_in_between(name, most):
    algorithm = BY_NAME[name]
    seen = []

    def stop(phase: str, _share: float) -> None:
        seen.append(phase)
        if len(seen) == most:
            raise Cancelled

    with pytest.raises(Cancelled):
        algorithm.fit(DATA, algorithm.config(), stop)
    assert seen == ["counting", "factorising", "factorising"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("svd", {"algorithm": "arpack", "n_components": 2000}),
        ("svd", {"algorithm": "randomized", "n_components": 2000, "binary": True}),
        ("nmf", {"solver": "mu", "n_components": 500, "max_iter": 20}),
        ("als", {"use_cg": False, "factors": 8, "half_life_days": 30}),
        ("clusters", {"n_clusters": 1000, "half_life_days": 5}),
        ("hybrid", {"method": "rrf"}),
        ("trending", {"binary": True, "half_life_days": 0.001}),
    ],
)
def test_settings_at_their_limits_are_cut_to_the_data(name, settings):
    algorithm = BY_NAME[name]

    model = algorithm.fit(DATA, algorithm.config.model_validate(settings), no_progress)

    assert np.all(np.isfinite(model.score_all(TRAIN)))


def test_svd_has_the_settings_of_the_first_release():
    defaults = BY_NAME["svd"].config().model_dump()

    assert {name: defaults[name] for name in list(defaults)[:5]} == {
        "n_components": 50,
        "algorithm": "randomized",
        "n_iter": 10,
        "random_state": 42,
        "tol": 0.0,
    }


def test_popularity_counts_users_and_trending_forgets():
    popular = BY_NAME["popularity"].fit(DATA, BY_NAME["popularity"].config(), no_progress)
    trending = BY_NAME["trending"].fit(
        DATA, BY_NAME["trending"].config(half_life_days=1), no_progress
    )

    np.testing.assert_array_equal(popular.scores, (TRAIN > 0).sum(axis=0).A1)
    ages = (DATA.times.max() - DATA.times) / 86400
    expected = np.bincount(DATA.items, DATA.weights * 0.5**ages, minlength=ITEMS)
    np.testing.assert_allclose(trending.scores, expected, rtol=1e-5)


def hybrid(method: str, *components: dict):
    config = BY_NAME["hybrid"].config.model_validate({"method": method, "components": components})
    return BY_NAME["hybrid"].fit(DATA, config, no_progress)


def test_hybrid_by_matrix_sums_at_the_norm_of_the_first():
    one = {"algorithm": "item_knn", "hyperparameters": {"similarity": "cosine", "k": 20}}
    two = {"algorithm": "item_knn", "hyperparameters": {"similarity": "bm25"}, "weight": 0.5}
    first, second = (hybrid("matrix", {**c, "weight": 1}).matrix().toarray() for c in (one, two))

    model = hybrid("matrix", one, two)

    scale = 0.5 * np.linalg.norm(first) / np.linalg.norm(second)
    assert isinstance(model, NeighbourMatrix)
    np.testing.assert_allclose(model.matrix().toarray(), first + scale * second, rtol=1e-4)


def test_hybrid_by_matrix_refuses_what_makes_none():
    with pytest.raises(InvalidArgument) as caught:
        hybrid("matrix", {"algorithm": "popularity"})

    assert caught.value.reason == "INVALID_HYPERPARAMETERS"


@pytest.mark.parametrize(
    ("component", "why"),
    [
        ({"algorithm": "hybrid"}, "'hybrid' is none of item_knn"),
        ({"algorithm": "magic"}, "'magic' is none of item_knn"),
        ({"algorithm": "als", "hyperparameters": {"factor": 3}}, "hyperparameters.factor: Extra"),
        ({"algorithm": "als", "weight": 0}, "greater than 0"),
    ],
)
def test_hybrid_refuses_a_component(component, why):
    with pytest.raises(ValidationError, match=why):
        BY_NAME["hybrid"].config.model_validate({"components": [component]})
