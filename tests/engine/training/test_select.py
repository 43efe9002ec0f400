from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from engine.models import BY_NAME
from engine.models.base import Algorithm, Cancelled, ModelConfig, Needs, Trial, no_progress
from engine.models.forms.neighbours import NeighbourMatrix
from engine.training.auto import AutoConfig
from engine.training.choice import choose, tier
from engine.training.race import Contender
from engine.training.select import candidates, select
from storage.exceptions import FailedPrecondition

ITEM_KNN = BY_NAME["item_knn"]
POPULAR = tuple(BY_NAME[name] for name in ("popularity", "item_knn") if name in BY_NAME)


def table(*algorithms):
    return {algorithm.name: algorithm for algorithm in algorithms}


def recording(into, name="item_knn"):
    """item_knn under a name, which keeps what it is fitted on."""

    def fit(data, config, progress):
        into.append(data)
        return ITEM_KNN.fit(data, config, progress)

    return Algorithm(name, "", ITEM_KNN.config, fit)


def pairs(data):
    return set(zip(data.users.tolist(), data.items.tolist(), strict=True))


def test_select_beats_popularity_where_there_is_structure(make_data):
    trained = select(make_data(), AutoConfig(), no_progress, algorithms=table(*POPULAR))
    assert trained.algorithm == "item_knn"
    scores = {}
    for row in trained.report["trials"]:
        scores[row["algorithm"]] = max(scores.get(row["algorithm"], 0), row["score"])
    assert scores["item_knn"] > 1.5 * scores["popularity"]
    assert trained.metrics["ndcg@20.low"] < trained.metrics["ndcg@20"]


def test_select_takes_the_simple_one_where_there_is_only_chance(make_data):
    noise = make_data(groups=1)
    trained = select(noise, AutoConfig(), no_progress, algorithms=table(*POPULAR))
    assert trained.algorithm == "popularity"


def test_select_fits_the_winner_on_all_interactions(make_data):
    fitted = []
    data = make_data()
    trained = select(data, AutoConfig(), no_progress, algorithms=table(recording(fitted)))
    assert fitted[-1] is data
    assert trained.model.entity_nos.tolist() == data.entity_nos.tolist()
    assert all(len(part) < len(data) for part in fitted[:-1])


@pytest.mark.parametrize("split", [None, "temporal", "leave_last_out", "random"])
def test_select_never_shows_what_is_held_out(make_data, split):
    fitted = []
    data = make_data(times=lambda rng, n: rng.integers(0, 90 * 86400, n))
    select(data, AutoConfig(split=split), no_progress, algorithms=table(recording(fitted)))
    train, whole = fitted[0], fitted[-1]
    held_out = pairs(whole) - pairs(train)
    assert held_out
    assert all(pairs(part) == pairs(train) for part in fitted[:-1])


def test_select_never_trains_on_marked_validation_interactions(make_data):
    fitted = []
    data = make_data()
    data.times[::7] = 500
    select(data, AutoConfig(holdout_after=500), no_progress, algorithms=table(recording(fitted)))
    assert [np.count_nonzero(part.times == 500) for part in fitted[:-1]] == [0] * len(fitted[:-1])
    assert np.count_nonzero(fitted[-1].times == 500) > 0


def test_select_tunes_and_takes_the_best_settings(make_data):
    def tune(train, judge, seconds, progress):
        progress("looking", 0.5)
        assert 0 < seconds < 900
        configs = [ITEM_KNN.config(k=k) for k in (1, 100)]
        return [
            Trial(config, judge(ITEM_KNN.fit(train, config, no_progress)), 0.1)
            for config in configs
        ]

    phases = []
    trained = select(
        make_data(),
        AutoConfig(candidates=("item_knn",)),
        lambda phase, share: phases.append((phase, share)),
        algorithms=table(replace(ITEM_KNN, tune=tune)),
    )
    assert trained.hyperparameters["k"] == 100
    states = [(row["settings"], row["state"]) for row in trained.report["trials"]]
    assert states[:2] == [({"k": 1}, "tuning"), ({"k": 100}, "judged")]
    assert [phase for phase, _ in phases][1:3] == ["tuning item_knn"] * 2
    shares = [share for _, share in phases]
    assert shares == sorted(shares)


def test_select_fits_again_when_the_last_judged_is_not_the_one_to_take(make_data):
    def tune(train, judge, seconds, progress):
        configs = [ITEM_KNN.config(k=k) for k in (100, 1)]
        trials = [
            Trial(config, judge(ITEM_KNN.fit(train, config, no_progress)), 0.1)
            for config in configs
        ]
        return trials[::-1]

    trained = select(
        make_data(), AutoConfig(), no_progress, algorithms=table(replace(ITEM_KNN, tune=tune))
    )
    assert trained.hyperparameters["k"] == 100


def test_select_begins_no_trial_when_the_time_is_over(make_data):
    ticks = count(0, 40)
    fitted = []
    slow = replace(recording(fitted), grid=tuple(ITEM_KNN.config(k=k) for k in range(10, 60, 5)))
    other = recording(fitted, "other")
    config = AutoConfig(seconds=400, candidates=("item_knn",))
    # Every look at the clock takes 40 seconds.
    trained = select(
        make_data(), config, no_progress, algorithms=table(slow, other), clock=lambda: next(ticks)
    )
    judged = [row for row in trained.report["trials"] if row["state"] == "judged"]
    skipped = [row for row in trained.report["trials"] if row["state"] == "skipped"]
    assert 1 <= len(judged) < 4
    assert skipped
    assert all("time" in row["note"] for row in skipped)
    assert len(fitted) == len(judged) + 1


def test_select_with_no_time_at_all_still_makes_a_model(make_data):
    ticks = count(0, 1000)
    trained = select(
        make_data(),
        AutoConfig(seconds=1),
        no_progress,
        algorithms=table(*POPULAR),
        clock=lambda: next(ticks),
    )
    assert trained.algorithm == POPULAR[0].name


def test_select_reports_everything(make_data):
    trained = select(make_data(), AutoConfig(), no_progress, algorithms=table(*POPULAR))
    report = trained.report
    assert report["split"] == "random"
    assert report["users"] == 240
    assert report["interactions"]["validation"] > 0
    assert 0 < report["seconds"] < report["budget_seconds"] == 900
    for row in report["trials"]:
        assert row["low"] <= row["score"] <= row["high"]
        assert row["seconds"] >= 0
    assert report["chosen"]["algorithm"] == trained.algorithm
    assert "score" in report["chosen"]["why"]


def test_select_tells_of_candidates_that_fail_or_do_not_fit(make_data):
    def broken(_data, _config, _progress):
        raise ValueError("singular")

    trained = select(
        make_data(),
        AutoConfig(candidates=("item_knn",)),
        no_progress,
        algorithms=table(ITEM_KNN),
    )
    assert trained.algorithm == "item_knn"
    failing = Algorithm("item_knn", "", ModelConfig, broken)
    with pytest.raises(FailedPrecondition, match="ValueError: singular"):
        select(make_data(), AutoConfig(), no_progress, algorithms=table(failing))
    hungry = Algorithm("item_knn", "", ModelConfig, broken, Needs(users=9999))
    with pytest.raises(FailedPrecondition, match="needs 9999 users"):
        select(make_data(), AutoConfig(), no_progress, algorithms=table(hungry))


def test_select_with_nobody_to_judge_on_takes_the_first_candidate(make_data):
    lonely = make_data(each=1, n_users=20)
    trained = select(lonely, AutoConfig(), no_progress, algorithms=table(ITEM_KNN))
    assert trained.algorithm == "item_knn"
    assert trained.metrics == {}
    assert "No user" in trained.report["chosen"]["why"]


def test_select_stops_when_cancelled(make_data):
    def stop(phase, _share):
        if phase.startswith("trying"):
            raise Cancelled

    with pytest.raises(Cancelled):
        select(make_data(), AutoConfig(), stop, algorithms=table(ITEM_KNN))


def test_select_tries_half_lives_where_age_can_matter(make_data):
    data = make_data(times=lambda rng, n: rng.integers(0, 90 * 86400, n))
    trained = select(
        data, AutoConfig(half_lives_days=(9,)), no_progress, algorithms=table(ITEM_KNN)
    )
    tried = [row["settings"].get("half_life_days") for row in trained.report["trials"]]
    assert tried.count(9.0) == 1


@pytest.mark.parametrize(
    ("n_items", "expected"),
    [
        (120, ["item_knn", "spectral", "ease", "hybrid"]),
        (12_000, ["item_knn", "spectral", "slim", "hybrid"]),
    ],
    ids=["small", "large"],
)
def test_candidates_by_the_size_of_the_catalogue(make_data, n_items, expected):
    data = make_data(groups=1, n_users=1, n_items=n_items, each=120)
    data = replace(
        data,
        users=np.zeros(n_items, np.int32),
        items=np.arange(n_items, dtype=np.int32),
        weights=np.ones(n_items, np.float32),
        times=np.zeros(n_items, np.int64),
    )
    known = dict.fromkeys(["hybrid", "slim", "ease", "spectral", "item_knn"], ITEM_KNN)
    assert candidates(data, AutoConfig(), known) == expected


def test_candidates_that_are_named_keep_their_order_once(make_data):
    known = dict.fromkeys(["a", "b", "hybrid"], ITEM_KNN)
    config = AutoConfig.model_construct(candidates=("hybrid", "b", "a", "b", "missing"))
    assert candidates(make_data(), config, known) == ["b", "a", "hybrid"]
    with pytest.raises(FailedPrecondition):
        candidates(make_data(), config, {"hybrid": ITEM_KNN})


def contender(algorithm, values):
    return Contender(
        algorithm, ITEM_KNN.config(), np.empty((0, 20), np.int32), np.asarray(values), 1.0
    )


def test_choose_the_simplest_that_is_not_told_apart():
    rng = np.random.default_rng(4)
    base = rng.random(300)
    level = base + rng.normal(0, 0.2, 300)
    won, why = choose(
        [
            contender("hybrid", base + 0.3),
            contender("spectral", level - level.mean() + base.mean() + 0.299),
            contender("item_knn", base),
            contender("popularity", base - 0.1),
        ]
    )
    assert won.algorithm == "spectral"
    assert "simpler than hybrid" in why


def test_choose_the_best_where_it_is_told_apart():
    base = np.random.default_rng(4).random(300)
    won, why = choose([contender("hybrid", base + 0.01), contender("spectral", base)])
    assert won.algorithm == "hybrid"
    assert "best score" in why


def test_choose_the_best_of_one_tier():
    base = np.random.default_rng(4).random(300)
    noisy = base + np.random.default_rng(5).normal(0, 0.3, 300)
    level = noisy - noisy.mean() + base.mean()
    won, _ = choose([contender("spectral", level), contender("ease", base + 1e-4)])
    assert won.algorithm == "ease"


def test_tiers_go_from_simple_to_complicated():
    names = ["popularity", "item_knn", "als", "spectral", "hybrid"]
    assert [tier(name) for name in names] == sorted(tier(name) for name in names)
    assert tier("toy") == tier("spectral")


def test_select_blends_matrices_without_fitting_again(make_data):
    if "hybrid" not in BY_NAME:
        pytest.skip("hybrid is not registered")
    names = ("spectral", "ease", "hybrid")
    trained = select(
        make_data(n_users=120, n_items=60, each=10),
        AutoConfig(candidates=names, seconds=600),
        no_progress,
    )
    blends = [r for r in trained.report["trials"] if r["algorithm"] == "hybrid"]
    weights = [r["settings"]["components"][1].get("weight", 1.0) for r in blends]
    assert weights == [0.3, 0.6, 1.0, 1.5]
    assert all(r["state"] == "judged" for r in blends)
    assert isinstance(trained.model, NeighbourMatrix)
