import math

import pytest

from engine.training.promotion import not_worse

SERVING = {"ndcg@20": 0.20, "ndcg@20.low": 0.18, "ndcg@20.high": 0.22, "recall@20": 0.3}


@pytest.mark.parametrize(
    ("new", "serving", "expected"),
    [
        ({"ndcg@20": 0.25}, SERVING, True),
        ({"ndcg@20": 0.18}, SERVING, True),
        ({"ndcg@20": 0.1799}, SERVING, False),
        ({}, SERVING, True),
        ({"ndcg@20": 0.1}, {}, True),
        ({"ndcg@20": math.nan}, SERVING, True),
        ({"ndcg@20": 0.1}, {"ndcg@20": math.nan}, True),
        ({"ndcg@20": 0.19}, {"ndcg@20": 0.20}, False),
        ({"ndcg@20": 0.19}, {"ndcg@20": 0.20, "ndcg@20.low": math.nan}, False),
    ],
    ids=[
        "better", "at the bound", "below it", "new unmeasured", "serving unmeasured",
        "new not finite", "serving not finite", "no bound", "bound not finite",
    ],
)  # fmt: skip
def test_not_worse_by_the_lower_bound(new, serving, expected):
    assert not_worse(new, serving)[0] is expected


def test_not_worse_of_another_metric():
    assert not_worse({"recall@20": 0.29}, SERVING, "recall@20") == (
        False,
        "recall@20 is 0.2900, the serving version's 0.3000 (from 0.3000):"
        " worse beyond the interval.",
    )
