import numpy as np
import pytest

from engine.models.artefact import open_artefact, write_artefact
from engine.models.forms import FactorModel, factor_index, factors
from engine.models.forms.factor_index import FactorIndex
from tests.engine.models.planted import history

N, F = 20_000, 12
NOBODY = np.empty(0, np.int32)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """As much looked at, of fewer entities, as where an index is made: a third and less."""
    monkeypatch.setattr(factor_index, "_LEAST_LOOKED_AT", 6_000)


@pytest.fixture(scope="module")
def planted() -> np.ndarray:
    """Factors in 100 directions, some entities much larger than others, and a few unknown."""
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(100, F))
    y = directions[rng.integers(100, size=N)] + 0.3 * rng.normal(size=(N, F))
    y *= rng.pareto(3, N)[:, None] + 0.1
    y[::100] = 0
    return y.astype(np.float32)


@pytest.fixture(scope="module")
def index(planted) -> FactorIndex:
    return FactorIndex.of(planted)


def queries(planted: np.ndarray, count: int = 50) -> np.ndarray:
    rng = np.random.default_rng(6)
    return planted[rng.choice(N, count)] + planted[rng.choice(N, count)] + 0.01


def test_every_entity_with_factors_lies_in_one_list(planted, index):
    assert sorted(index.places.tolist()) == np.flatnonzero(planted.any(axis=1)).tolist()
    np.testing.assert_array_equal(index.vectors, planted[index.places])
    assert index.starts[0] == 0
    assert index.starts[-1] == len(index.places)


def test_scores_are_exact(planted, index):
    for query in queries(planted, 5):
        places, scores = index.search(query)

        np.testing.assert_allclose(scores, planted[places] @ query, rtol=1e-4, atol=1e-4)
        assert len(np.unique(places)) == len(places)


def test_finds_nearly_all_of_the_best_and_looks_at_a_part(planted, index):
    found, looked_at = [], []
    for query in queries(planted):
        best = np.argsort(-(planted @ query))[:100]
        places, _ = index.search(query)
        found.append(np.isin(best, places).mean())
        looked_at.append(len(places) / N)

    assert np.mean(found) > 0.98
    assert np.mean(looked_at) < 0.4


def model(planted: np.ndarray, *, biased: bool = False, indexed: bool = True) -> FactorModel:
    biases = np.linspace(0, 2, N, dtype=np.float32) if biased else None
    rows = planted if biases is None else np.hstack([planted, biases[:, None]])
    index = FactorIndex.of(rows) if indexed else None
    return FactorModel(np.arange(N), planted, biases=biases, index=index)


@pytest.mark.parametrize("biased", [False, True])
def test_a_model_with_an_index_answers_as_one_without(planted, biased):
    asked = history([1, 7, 40], [1, 2, 1])
    hidden = model(planted, biased=biased, indexed=False).top(asked, 30, NOBODY).items
    expected = model(planted, biased=biased, indexed=False).top(asked, 20, hidden)

    actual = model(planted, biased=biased).top(asked, 20, hidden)

    assert len(np.intersect1d(actual.items, expected.items)) >= 19
    assert not np.isin(actual.items, hidden).any()
    assert actual.scores[0] == pytest.approx(expected.scores[0], rel=1e-4)
    assert (np.diff(actual.scores) <= 0).all()
    assert len(actual.because) == 20


def test_where_lists_hold_too_little_all_are_searched(planted, index):
    asked = history([1, 7, 40], [1, 2, 1])
    with_index = FactorModel(np.arange(N), planted, index=index)
    query = with_index.live(asked)
    near, _ = index.search(query)

    answer = with_index.top(asked, 50, near)

    expected = model(planted, indexed=False).top(asked, 50, near)
    assert answer.items.tolist() == expected.items.tolist()


@pytest.mark.parametrize("biased", [False, True])
def test_a_large_model_is_kept_with_an_index_and_a_small_one_without(
    planted, biased, tmp_path, monkeypatch
):
    plain = model(planted, biased=biased, indexed=False)
    asked = history([1, 7, 40], [1, 2, 1])
    write_artefact(plain, tmp_path / "small", {})
    monkeypatch.setattr(factors, "INDEX_FROM", N)
    write_artefact(plain, tmp_path / "large", {})

    small, large = (open_artefact(tmp_path / name).model for name in ("small", "large"))

    assert isinstance(small, FactorModel)
    assert small.index is None
    assert isinstance(large, FactorModel)
    assert large.index is not None
    expected, actual = small.top(asked, 20, NOBODY), large.top(asked, 20, NOBODY)
    assert len(np.intersect1d(actual.items, expected.items)) >= 19
    write_artefact(large, tmp_path / "again", {})
    assert (tmp_path / "again").read_bytes() == (tmp_path / "large").read_bytes()


def kept(change) -> dict[str, np.ndarray]:
    y = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    arrays = {"entity_nos": np.arange(40), "factors": y, **FactorIndex.of(y).arrays()}
    change(arrays)
    return arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("index_places"), "index_places is missing"),
        (lambda a: a.update(index_spreads=a["index_spreads"][:0]), "other shapes"),
        (lambda a: a.update(index_vectors=a["index_vectors"][:-1]), "other shapes"),
        (lambda a: a.update(index_means=a["index_means"][:, :2]), "other shapes"),
        (lambda a: a.update(index_places=a["index_places"] + 1), "not the model's"),
        (lambda a: a.update(index_places=a["index_places"] - 1), "not the model's"),
        (lambda a: a.update(index_places=a["index_places"] * 0), "in two lists"),
        (lambda a: a.update(index_places=a["index_places"][:, None]), "other shapes"),
        (lambda a: a.update(index_starts=a["index_starts"][:, None]), "other shapes"),
        (lambda a: a.update(index_starts=a["index_starts"] + 0.0), "other shapes"),
        (lambda a: a.update(index_starts=a["index_starts"] + 1), "follow one another"),
        (lambda a: a.update(index_starts=a["index_starts"][::-1]), "follow one another"),
        (lambda a: a.update(factors=a["factors"][:, :2]), "index does not fit"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(change, message):
    settings = FactorModel(np.arange(1), np.ones((1, 1), np.float32)).settings()

    with pytest.raises(ValueError, match=message):
        FactorModel.from_arrays(kept(change), settings)


def test_many_entities_with_the_same_factors_are_no_trouble():
    same = np.repeat(np.eye(3, dtype=np.float32), 500, axis=0)

    places, scores = FactorIndex.of(same).search(np.array([1, 2, 3], np.float32))

    assert sorted(places.tolist()) == list(range(1500))
    assert np.unique(scores).tolist() == [1, 2, 3]


def test_a_model_that_knows_nothing_answers_nothing():
    nothing = np.zeros((5, 3), np.float32)
    model = FactorModel(np.arange(5), nothing, index=FactorIndex.of(nothing))

    assert len(model.top(history([1, 2], [1, 1]), 3, NOBODY).items) == 0
