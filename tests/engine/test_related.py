"""Item to item: sums over the neighbours of what was met, and what led to them."""

import numpy as np

from engine.related import relate
from engine.sources import Anchor
from storage.users import NeighbourRows


def met(number: int, weight: float = 1.0) -> Anchor:
    return Anchor(number, "book", f"b{number}", weight, None)


def rows(**neighbours: dict[int, float]) -> NeighbourRows:
    """Rows by `n1={2: 0.5}`: what the entity 1 has for neighbours."""
    return NeighbourRows(
        [int(name[1:]) for name in neighbours],
        [len(row) for row in neighbours.values()],
        np.array([number for row in neighbours.values() for number in row], np.int64),
        np.array([score for row in neighbours.values() for score in row.values()], np.float32),
    )


def test_relate_sums_weights_times_scores_the_best_first():
    found = relate([met(1), met(2, 2.0)], rows(n1={8: 0.5, 9: 0.25}, n2={9: 0.5}), 10)
    assert (found.numbers, found.sums) == ([9, 8], [1.25, 0.5])


def test_relate_names_who_led_to_an_entity_the_strongest_first():
    neighbours = rows(n1={9: 0.25}, n2={9: 0.5}, n3={9: 0.25}, n4={9: 0.125})
    found = relate([met(4), met(3), met(2), met(1)], neighbours, 10)
    assert found.because == {9: [2, 1, 3]}


def test_relate_with_a_dislike_takes_away_and_leaves_out_what_is_not_above_zero():
    found = relate([met(1), met(2, -1.0)], rows(n1={8: 0.5, 9: 0.5}, n2={8: 0.25, 9: 0.5}), 10)
    assert (found.numbers, found.sums) == ([8], [0.25])


def test_relate_of_equal_sums_takes_the_lower_number():
    found = relate([met(1)], rows(n1={9: 0.5, 7: 0.5, 8: 0.5}), 2)
    assert found.numbers == [7, 8]
    assert sorted(found.because) == [7, 8]


def test_relate_of_an_entity_met_twice_counts_both():
    assert relate([met(1, 3.0), met(1)], rows(n1={9: 0.5}), 5).sums == [2.0]


def test_relate_of_anchors_without_neighbours_finds_nothing():
    assert relate([met(5)], rows(n1={9: 0.5}), 5).numbers == ()
    assert relate([], rows(), 5).numbers == ()
