import numpy as np
import pytest

from engine.evaluation import splits
from engine.models.base import Interactions


def data(*rows, n_users=4, n_items=6):
    """Rows of user, item, time and perhaps weight."""
    columns = [np.array([row[i] for row in rows]) for i in range(3)]
    weights = [row[3] if len(row) > 3 else 1 for row in rows]
    return Interactions(
        columns[0].astype(np.int32),
        columns[1].astype(np.int32),
        np.array(weights, np.float32),
        columns[2].astype(np.int64),
        np.arange(n_items, dtype=np.int64) + 10,
        np.arange(n_users, dtype=np.int64) + 100,
    )


def rows(part):
    return sorted(zip(part.users.tolist(), part.items.tolist(), part.times.tolist(), strict=True))


ONE_EACH = data((0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 2, 4), (2, 3, 5))


def test_temporal_holds_out_the_newest_share():
    split = splits.temporal(ONE_EACH, 0.4)
    assert rows(split.train) == [(0, 0, 1), (0, 1, 2), (1, 0, 3)]
    assert rows(split.held_out) == [(1, 2, 4), (2, 3, 5)]


def test_temporal_of_equal_times_leaves_nothing_to_learn_from():
    split = splits.temporal(data((0, 0, 7), (1, 1, 7)))
    assert (len(split.train), len(split.held_out)) == (0, 2)


def test_temporal_of_nothing_is_nothing():
    split = splits.temporal(ONE_EACH.take(np.zeros(5, np.bool_)))
    assert (len(split.train), len(split.held_out)) == (0, 0)


def test_since_drops_later_interactions_of_known_pairs():
    split = splits.since(data((0, 0, 1), (0, 0, 9), (0, 1, 9)), 5)
    assert rows(split.train) == [(0, 0, 1)]
    assert rows(split.held_out) == [(0, 1, 9)]


def test_leave_last_out_holds_out_the_newest_entity_of_each_user():
    split = splits.leave_last_out(ONE_EACH)
    assert rows(split.held_out) == [(0, 1, 2), (1, 2, 4)]
    assert len(split.train) == 3


def test_leave_last_out_takes_a_pair_with_all_its_interactions():
    # Entity 1 is the newer one: 0 was met first, and only seen again later.
    split = splits.leave_last_out(data((0, 0, 1), (0, 1, 2), (0, 1, 3), (0, 0, 4)))
    assert rows(split.train) == [(0, 0, 1), (0, 0, 4)]
    assert rows(split.held_out) == [(0, 1, 2), (0, 1, 3)]


def test_leave_last_out_by_share_takes_the_newest():
    many = data(*[(0, item, item) for item in range(6)])
    split = splits.leave_last_out(many, 0.5)
    assert sorted(split.held_out.items.tolist()) == [3, 4, 5]


@pytest.mark.parametrize("name", sorted(splits.SPLITS))
def test_split_parts_share_no_pair_and_keep_the_index_spaces(name):
    rng = np.random.default_rng(3)
    many = data(
        *zip(
            rng.integers(0, 20, 300), rng.integers(0, 30, 300), rng.integers(0, 99, 300),
            strict=True,
        ),
        n_users=20,
        n_items=30,
    )  # fmt: skip
    split = splits.SPLITS[name](many)
    pairs = [set(zip(p.users.tolist(), p.items.tolist(), strict=True)) for p in
             (split.train, split.held_out)]  # fmt: skip
    assert pairs[0] & pairs[1] == set()
    assert len(pairs[1]) > 0
    assert split.train.entity_nos is many.entity_nos
    assert split.held_out.user_keys is many.user_keys


def test_random_keeps_at_least_one_entity_of_each_user():
    split = splits.random(data((0, 0, 1), (1, 0, 1), (1, 1, 1)), 0.9)
    assert len(split.train) == 2
    assert rows(split.held_out)[0][0] == 1


def test_random_is_the_same_for_the_same_seed():
    many = data(*[(user, item, 0) for user in range(4) for item in range(6)])
    first, again, other = (splits.random(many, 0.4, seed) for seed in (1, 1, 2))
    assert rows(first.held_out) == rows(again.held_out)
    assert rows(first.held_out) != rows(other.held_out)


DAY = 86400


def test_spans_days_of_a_bulk_load_is_false():
    assert not splits.spans_days(data((0, 0, 0), (0, 1, DAY)))
    assert splits.spans_days(data((0, 0, 0), (0, 1, DAY + 1)))
    assert not splits.spans_days(ONE_EACH.take(np.zeros(5, np.bool_)))


@pytest.mark.parametrize(
    ("last", "expected"),
    [((2 * DAY, 2 * DAY), True), ((2 * DAY, 60), True), ((60, 60), False)],
    ids=["all", "half", "none"],
)
def test_users_return_asks_at_least_half_of_the_users(last, expected):
    rows_ = [(user, item, time) for user in (0, 1) for item, time in ((0, 0), (1, last[user]))]
    assert splits.users_return(data(*rows_, (2, 0, 9 * DAY))) is expected


def test_users_return_does_not_count_seeing_the_same_entity_again():
    assert not splits.users_return(data((0, 0, 0), (0, 1, 60), (0, 0, 9 * DAY)))
