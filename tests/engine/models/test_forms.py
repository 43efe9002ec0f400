from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from engine.models.artefact import open_artefact, write_artefact
from engine.models.forms import (
    FORMS,
    Blend,
    ClusterModel,
    FactorModel,
    ItemScores,
    NeighbourMatrix,
    ServingModel,
)
from engine.models.forms.base import best
from engine.models.forms.clusters import NO_SEGMENT
from engine.models.forms.factors import ridge
from engine.models.forms.neighbours import keep_top
from storage.artefacts import content_hash
from storage.exceptions import FailedPrecondition
from tests.engine.models.planted import history, random_rows

N = 50
NOBODY = np.empty(0, np.int32)
NUMBERS = np.arange(N, dtype=np.int64) * 2 + 1


def neighbours(seed: int = 0, **settings) -> NeighbourMatrix:
    rows = random_rows(N, N, 0.3, seed)
    rows.data -= 0.2
    rows.setdiag(0)
    rows.eliminate_zeros()
    return NeighbourMatrix.from_matrix(NUMBERS, rows, **settings)


def factors(*, biased: bool = False, confident: bool = False) -> FactorModel:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(N, 6)).astype(np.float32)
    return FactorModel(
        NUMBERS,
        y,
        ridge(y, 0.5) if confident or biased else None,
        rng.random(N).astype(np.float32) if biased else None,
        fold_in="confidence" if confident else "linear",
        alpha=4.0,
    )


def scores() -> ItemScores:
    return ItemScores(NUMBERS, (np.arange(N) * 7 % 11).astype(np.float32))


def clusters() -> ClusterModel:
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(N, 4)))[0].astype(np.float32)
    shares = random_rows(3, N, 0.6, 3)
    return ClusterModel(NUMBERS, basis, rng.normal(size=(3, 4)).astype(np.float32), shares)


def blend(method: str, pool: int = 20) -> Blend:
    return Blend([neighbours(), factors(), scores()], [1, 0.5, 0.1], method=method, pool=pool)


MODELS: dict[str, ServingModel] = {
    "neighbours": neighbours(),
    "neighbours, settings": neighbours(binary=True, half_life_days=3.0, last=9),
    "factors": factors(),
    "factors, confidence": factors(confident=True),
    "factors, biases": factors(biased=True),
    "scores": scores(),
    "clusters": clusters(),
    "blend of scores": blend("scores"),
    "blend of ranks": blend("rrf"),
    "blend of a blend": Blend([blend("rrf", N), clusters()], [1, 2], pool=N),
}
SEEN = [3, 40, 11, 7]
WEIGHTS = [1, 2, -0.5, 1]


@pytest.fixture(params=MODELS)
def model(request) -> ServingModel:
    return MODELS[request.param]


def scores_of(model: ServingModel, items, weights) -> np.ndarray:
    row = sparse.csr_matrix(
        (np.asarray(weights, np.float32), (np.zeros(len(items), int), items)), shape=(1, N)
    )
    scored: np.ndarray = model.score_all(row)[0]
    return scored


def test_forms_are_all_tested():
    assert {type(model) for model in MODELS.values()} == set(FORMS)


def test_form_comes_back_from_its_artefact(model, tmp_path):
    path = tmp_path / "model"
    asked = history(SEEN, WEIGHTS, [0, 1, 2, 3])
    expected = model.top(asked, 10, NOBODY)

    write_artefact(model, path, {"algorithm": "any"})
    opened = open_artefact(path, content_hash(path))
    actual = opened.model.top(asked, 10, NOBODY)

    assert opened.manifest["algorithm"] == "any"
    assert opened.model.settings() == model.settings()
    assert actual.items.tolist() == expected.items.tolist()
    # Memory that lies otherwise is summed in another order.
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-5)
    assert list(actual.because) == list(expected.because)
    assert opened.model.entity_nos.tolist() == NUMBERS.tolist()


def test_form_in_a_map_is_never_written_to(model, tmp_path):
    write_artefact(model, tmp_path / "model", {})
    opened = open_artefact(tmp_path / "model").model

    before = content_hash(tmp_path / "model")
    opened.top(history(SEEN, WEIGHTS), 10, np.array([1, 2], np.int32))
    scores_of(opened, SEEN, WEIGHTS)

    assert not any(
        array.flags.writeable
        for array in opened.arrays().values()
        if array.base is not None and array.size > 10
    )
    assert content_hash(tmp_path / "model") == before


def corrupted(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "one byte":
        content[-5] ^= 1
    elif how == "truncated":
        del content[-9:]
    elif how == "foreign":
        content = bytearray(b"PK\x03\x04 an archive of something else entirely")
    elif how == "empty":
        content.clear()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["one byte", "truncated", "foreign", "empty"])
def test_artefact_of_other_content_is_refused(model, tmp_path, how):
    path = tmp_path / "model"
    write_artefact(model, path, {})
    expected = content_hash(path)
    corrupted(path, how)

    with pytest.raises(FailedPrecondition) as caught:
        open_artefact(path, expected)

    assert caught.value.reason == "ARTEFACT_CORRUPT"


@pytest.mark.parametrize("how", ["truncated", "foreign", "empty"])
def test_artefact_without_its_checksum_is_refused(model, tmp_path, how):
    path = tmp_path / "model"
    write_artefact(model, path, {})
    corrupted(path, how)

    with pytest.raises(FailedPrecondition) as caught:
        open_artefact(path)

    assert caught.value.reason == "ARTEFACT_CORRUPT"


def test_from_arrays_refuses_what_is_missing_or_does_not_fit(model):
    held = model.arrays()
    for name in held:
        if name.rpartition(".")[2] in {"projection", "biases"}:
            continue  # these may be absent
        with pytest.raises(ValueError, match=r"missing|fit|format"):
            type(model).from_arrays({n: a for n, a in held.items() if n != name}, model.settings())
    with pytest.raises(ValueError, match=r"fit|outside|indices must"):
        type(model).from_arrays({**held, "entity_nos": NUMBERS[:-3]}, model.settings())


def test_top_has_the_scores_of_score_all(model):
    if isinstance(model, NeighbourMatrix) and model.last is not None:
        pytest.skip("score_all knows no ages")
    expected = scores_of(model, SEEN, WEIGHTS)

    answer = model.top(history(SEEN, WEIGHTS), 20, NOBODY)

    assert len(answer.items) > 0
    assert np.all(np.diff(answer.scores) <= 0)
    np.testing.assert_allclose(answer.scores, expected[answer.items], rtol=1e-4, atol=1e-5)
    others = np.setdiff1d(np.arange(N), answer.items)
    if len(answer.items) == 20:
        assert expected[others].max() <= answer.scores[-1] + 1e-5


def test_top_leaves_out_the_excluded(model):
    free = model.top(history(SEEN, WEIGHTS), N, NOBODY)
    exclude = free.items[:5]

    answer = model.top(history(SEEN, WEIGHTS), N, exclude)

    assert set(answer.items.tolist()) == set(free.items[5:].tolist())


def test_top_of_more_than_there_are_answers_each_once(model):
    answer = model.top(history(SEEN, WEIGHTS), 10 * N, NOBODY)

    assert len(set(answer.items.tolist())) == len(answer.items) <= N
    assert answer.items.dtype == np.int32
    assert answer.scores.dtype == np.float32


def test_reasons_name_up_to_three_places_of_the_history(model):
    answer = model.top(history(SEEN, WEIGHTS), N, NOBODY)

    assert len(answer.because) in {0, len(answer.items)}
    for item, places in zip(answer.items.tolist(), answer.because, strict=False):
        assert len(set(places)) == len(places) <= 3
        assert item not in {SEEN[place] for place in places}
        assert set(places) <= set(range(len(SEEN)))
        assert all(type(place) is int for place in places)


def test_top_of_no_history_is_the_same_for_all_or_empty(model):
    answer = model.top(history([]), 5, NOBODY)

    assert len(answer.items) in {0, 5}
    assert not any(answer.because)


def test_segment_of_a_history():
    model = clusters()

    rows = sparse.csr_matrix((np.array(WEIGHTS, np.float32), ([0] * 4, SEEN)), shape=(2, N))

    assert model.segment_of(history(SEEN, WEIGHTS)) == model.segments_of(rows)[0]
    assert model.segment_of(history([])) == NO_SEGMENT == model.segments_of(rows)[1]


def test_blend_gives_the_reasons_of_the_largest_part():
    first = ItemScores(NUMBERS[:3], np.array([0, 2, 1], np.float32))
    rows = sparse.csr_matrix(np.array([[0, 1, 9], [0, 0, 0], [0, 0, 0]], np.float32))
    second = NeighbourMatrix.from_matrix(NUMBERS[:3], rows)

    answer = Blend([first, second], [1, 1]).top(history([0]), 3, NOBODY)

    assert answer.items.tolist() == [1, 2]
    assert answer.because == [(), (0,)]


def test_blend_does_not_let_what_was_seen_make_the_scale():
    first = ItemScores(NUMBERS[:4], np.array([100, 3, 2, 1], np.float32))

    answer = Blend([first], [1]).top(history([0]), 4, NOBODY)

    assert answer.items.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(answer.scores[1:], [1, 0.5, 0])


def test_blend_by_ranks_adds_reciprocals():
    first = ItemScores(NUMBERS[:3], np.array([5, 2, 1], np.float32))
    second = ItemScores(NUMBERS[:3], np.array([0, 2, 9], np.float32))

    answer = Blend([first, second], [1, 3], method="rrf").top(history([]), 3, NOBODY)

    assert answer.items.tolist() == [2, 1, 0]
    expected = [1 / 63 + 3 / 61, 1 / 62 + 3 / 62, 1 / 61]
    np.testing.assert_allclose(answer.scores, expected, rtol=1e-6)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.integers(1, 70))
def test_best_is_the_start_of_the_sorted_list(values, k):
    places = np.random.default_rng(len(values)).permutation(len(values)).astype(np.int32)
    expected = sorted(range(len(values)), key=lambda at: (-values[at], places[at]))[:k]

    actual = best(np.array(values, np.float32), places, k)

    assert actual.tolist() == expected


@given(st.integers(0, 1000), st.integers(1, 12))
def test_keep_top_keeps_the_largest_of_each_row_with_their_signs(seed, k):
    rows = random_rows(6, 9, 0.6, seed)
    rows.data -= 0.5

    kept = keep_top(rows, k).toarray()

    for row, all_of in zip(kept, rows.toarray(), strict=True):
        expected = np.sort(np.abs(all_of))[::-1][:k]
        np.testing.assert_array_equal(np.sort(np.abs(row))[::-1][:k], expected)
        assert np.count_nonzero(row) <= k
        assert np.all((row == 0) | (row == all_of))
