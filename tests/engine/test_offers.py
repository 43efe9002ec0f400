"""What a model offers: history in its places, reasons by name, nothing where it knows nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
from scipy import sparse

from engine.models.forms import NeighbourMatrix
from engine.offers import history_of, offers_of
from engine.sources import Anchor
from storage.situations import HistoryItem


def matrix(
    rows: list[list[float]], numbers: list[int] | None = None, **settings
) -> NeighbourMatrix:
    dense = np.asarray(rows, np.float32)
    nos = np.asarray(numbers or [10 * (i + 1) for i in range(len(rows))], np.int64)
    return NeighbourMatrix.from_matrix(nos, sparse.csr_matrix(dense), **settings)


def did(number: int, weight: float = 1.0, days: float = 0.0) -> HistoryItem:
    when = datetime.now(UTC) - timedelta(days=days)
    return HistoryItem(number, "book", f"b{number}", weight, when, None)


def looks_at(number: int, weight: float = 3.0) -> Anchor:
    return Anchor(number, "book", f"b{number}", weight, None, context=True)


CHAIN = [[0, 1, 0.2, 0], [1, 0, 0.5, 0], [0, 0.5, 0, 0.1], [0, 0, 0.1, 0]]


def test_history_of_entities_the_model_does_not_know_is_left_out():
    history, keys = history_of(matrix(CHAIN), [], [did(20), did(99), did(5), did(40)])
    assert history.items.tolist() == [1, 3]
    assert keys == [("book", "b20"), ("book", "b40")]


def test_history_with_a_context_entity_counts_it_once_and_as_of_now():
    history, keys = history_of(matrix(CHAIN), [looks_at(20)], [did(20, 1.0, 30), did(10, 2.0, 3)])
    assert keys == [("book", "b20"), ("book", "b10")]
    assert history.weights.tolist() == [3.0, 2.0]
    assert history.ages[0] == 0
    assert abs(history.ages[1] - 3) < 0.01


async def test_offers_name_the_entities_that_led_to_each():
    offers = await offers_of("m@1", matrix(CHAIN), [], [did(10), did(20)], limit=10)
    assert offers is not None
    # 30 from both; 10 and 20 from each other: PostgreSQL knows whether they count as seen.
    numbers, scores = offers.ranked.numbers.tolist(), np.round(offers.ranked.scores, 4).tolist()
    assert dict(zip(numbers, scores, strict=True)) == {
        10: 1.0, 20: 1.0, 30: 0.7,
    }  # fmt: skip
    assert offers.because[30] == (("book", "b20"), ("book", "b10"))
    assert offers.because[20] == (("book", "b10"),)


async def test_offers_leave_as_many_as_asked_for_besides_the_history():
    offers = await offers_of("m@1", matrix(CHAIN), [], [did(10), did(20)], limit=1)
    assert offers is not None
    assert 30 in offers.ranked.numbers


async def test_offers_are_none_where_the_model_knows_nothing_of_the_history():
    assert await offers_of("m@1", matrix(CHAIN), [], [did(99)], limit=10) is None
    assert await offers_of("m@1", matrix(CHAIN), [], [], limit=10) is None


async def test_disliked_entities_repel():
    liked = await offers_of("m@1", matrix(CHAIN), [], [did(20)], limit=10)
    torn = await offers_of("m@1", matrix(CHAIN), [], [did(20), did(10, -5.0)], limit=10)
    assert liked is not None
    assert torn is not None
    assert 30 in liked.ranked.numbers
    assert 30 not in torn.ranked.numbers


async def test_age_halves_what_an_entity_says():
    model = matrix(CHAIN, half_life_days=10.0)
    offers = await offers_of("m@1", model, [], [did(20, 1.0, 10)], limit=10)
    assert offers is not None
    assert (
        abs(dict(zip(offers.ranked.numbers, offers.ranked.scores, strict=True))[30] - 0.25) < 1e-3
    )
