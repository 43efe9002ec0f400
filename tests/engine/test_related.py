"""Item to item: sums over the neighbours of what was met, and what led to them."""

import numpy as np
import pytest

from engine.related import relate
from engine.sources import Anchor
from storage.situations import Neighbours
from storage.vector_store import Related


def met(number: int, weight: float = 1.0) -> Anchor:
    return Anchor(number, "book", f"b{number}", weight, None)


def rows(**neighbours: dict[int, float]) -> dict[int, Neighbours]:
    """Rows by `n1={2: 0.5}`: what the entity 1 has for neighbours."""
    return {
        int(name[1:]): Neighbours(
            np.array(list(row), np.int64), np.array(list(row.values()), np.float32)
        )
        for name, row in neighbours.items()
    }


def listed(found: Related) -> tuple[list[int], list[float]]:
    return found.ranked.numbers.tolist(), found.ranked.scores.tolist()


def test_relate_sums_weights_times_scores_the_best_first():
    found = relate([met(1), met(2, 2.0)], rows(n1={8: 0.5, 9: 0.25}, n2={9: 0.5}), 10)
    assert listed(found) == ([9, 8], [1.25, 0.5])


def test_relate_names_who_led_to_an_entity_the_strongest_first():
    neighbours = rows(n1={9: 0.25}, n2={9: 0.5}, n3={9: 0.25, 8: 1.0}, n4={9: 0.125})
    found = relate([met(4), met(3), met(2), met(1)], neighbours, 10)
    assert found.because([9]) == {9: [2, 1, 3]}
    assert found.because([9, 8]) == {8: [3], 9: [2, 1, 3]}
    assert found.because([]) == {}


def test_relate_with_a_dislike_takes_away_and_leaves_out_what_is_not_above_zero():
    found = relate([met(1), met(2, -1.0)], rows(n1={8: 0.5, 9: 0.5}, n2={8: 0.25, 9: 0.5}), 10)
    assert listed(found) == ([8], [0.25])


def test_relate_of_equal_sums_takes_the_lower_number():
    neighbours = rows(n1={9: 0.5, 7: 0.5, 8: 0.5, 5: 0.25, 6: 0.75})
    assert listed(relate([met(1)], neighbours, 3))[0] == [6, 7, 8]
    assert listed(relate([met(1)], neighbours, 9))[0] == [6, 7, 8, 9, 5]


def test_relate_of_an_entity_met_twice_counts_both():
    assert listed(relate([met(1, 3.0), met(1)], rows(n1={9: 0.5}), 5)) == ([9], [2.0])


@pytest.mark.parametrize("anchors", [[met(5)], []])
def test_relate_of_anchors_without_neighbours_finds_nothing(anchors: list[Anchor]):
    found = relate(anchors, rows(n1={9: 0.5}), 5)
    assert listed(found) == ([], [])
    assert found.because([]) == {}
