"""A second opinion on the metrics."""

import numpy as np
import pytest
import ranx
from scipy import sparse

from engine.evaluation.metrics import ranking_metrics

NAMES = ("recall", "precision", "ndcg", "mrr", "map", "hit_rate")
KS = (1, 5, 10, 20)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_ranking_metrics_agree_with_ranx():
    rng = np.random.default_rng(7)
    users, n_items, width = 120, 300, 20
    ranked = np.array([rng.permutation(n_items)[:width] for _ in range(users)], np.int32)
    relevant = sparse.random(users, n_items, 0.06, format="lil", random_state=3, dtype=np.float32)
    for user in range(users):
        relevant[user, ranked[user, rng.integers(width)]] = 1
    relevant = relevant.tocsr()
    ours = ranking_metrics(ranked, relevant, KS)
    qrels = ranx.Qrels(
        {f"u{user}": {f"i{item}": 1 for item in relevant[user].indices} for user in range(users)}
    )
    run = ranx.Run(
        {
            f"u{user}": {f"i{item}": float(width - place) for place, item in enumerate(row)}
            for user, row in enumerate(ranked)
        }
    )
    wanted = [f"{name}@{k}" for name in NAMES for k in KS]
    theirs = ranx.evaluate(qrels, run, wanted, return_mean=False)
    # ranx returns users in the order of their names.
    order = np.argsort([f"u{user}" for user in range(users)])
    for name in wanted:
        np.testing.assert_allclose(ours[name][order], theirs[name], atol=1e-6, err_msg=name)
