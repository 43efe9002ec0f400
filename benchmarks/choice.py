"""What `auto` chooses beside what stands alone, on the end in time of a data set.

The oldest 80 % are learned from, the newest 20 % are to be found; `auto` sees only the former and
makes a validation split of its own within them. NDCG@20 and Recall@20 over the users who have
something to be found, with 95 % bootstrap intervals, and the paired difference from `auto`.
`python -m benchmarks.choice --data u.data`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.console import tell
from benchmarks.quality_data import BadFile, Ids, read
from engine.evaluation import splits
from engine.evaluation.bootstrap import difference, intervals
from engine.evaluation.evaluate import Judged
from engine.evaluation.metrics import ranking_metrics
from engine.models import BY_NAME
from engine.models.base import Interactions, no_progress
from engine.models.forms.base import ServingModel
from engine.training.auto import AutoConfig
from engine.training.select import select

K = 20
ALONE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "item-kNN, BM25": ("item_knn", {}),
    "item-kNN, BM25 of implicit's defaults": ("item_knn", {"k1": 1.2, "b": 0.75, "k": 20}),
    "item-kNN, cosine": ("item_knn", {"similarity": "cosine"}),
    "item-kNN, cosine, 20 neighbours": ("item_knn", {"similarity": "cosine", "k": 20}),
    "item-kNN, tf-idf": ("item_knn", {"similarity": "tfidf"}),
    "ALS": ("als", {}),
    "ALS, 64 factors": ("als", {"factors": 64}),
    "ALS of implicit's defaults": (
        "als",
        {"factors": 100, "regularization": 0.01, "alpha": 1},
    ),
    "ALS, 32 factors, alpha 1": ("als", {"factors": 32, "regularization": 1, "alpha": 1}),
}


def interactions(path: Path) -> Interactions:
    """A file of user, item, rating and time; the rating is the weight."""
    users, items = Ids(), Ids()
    rows = read(path, "tsv", users, items)
    if rows.times is None:
        raise BadFile(f"{path} has no times to split by")
    weights = rows.ratings if rows.ratings is not None else np.ones(len(rows.users), np.float32)
    return Interactions(
        rows.users,
        rows.items,
        weights,
        rows.times,
        np.arange(len(items.names), dtype=np.int64),
        np.arange(len(users.names), dtype=np.int64),
    )


def lists(judged: Judged, model: ServingModel, popular: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Each user's figures; a user whom the model knows nothing of gets what is popular."""
    ranked = judged.rank(model, K)
    unknown = ranked[:, 0] < 0
    ranked[unknown] = popular[unknown]
    return ranking_metrics(ranked, judged.relevant, (K,), ("recall", "ndcg"))


def run(data: Interactions, config: AutoConfig) -> dict[str, Any]:
    """Fits and judges everything once."""
    parts = splits.since(data, int(np.sort(data.times)[int(0.8 * len(data))]))
    judged = Judged.of(parts.train.matrix(), parts.held_out.matrix(binary=True))
    chosen = select(parts.train, config, no_progress)
    models: dict[str, ServingModel] = {"auto": chosen.model}
    for label, (name, settings) in ALONE.items():
        algorithm = BY_NAME[name]
        models[label] = algorithm.fit(parts.train, algorithm.config(**settings), no_progress)
    popular = judged.rank(models["popularity"], K)
    found = {label: lists(judged, model, popular) for label, model in models.items()}
    figures = {}
    for label, values in found.items():
        about = intervals(values)
        gap = difference(found["auto"][f"ndcg@{K}"], values[f"ndcg@{K}"])
        figures[label] = {
            name: {"mean": i.mean, "low": i.low, "high": i.high} for name, i in about.items()
        } | {"auto_minus": {"mean": gap.mean, "low": gap.low, "high": gap.high}}
    return {
        "users": len(judged.users),
        "chosen": {"algorithm": chosen.algorithm, "hyperparameters": chosen.hyperparameters},
        "report": chosen.report,
        "figures": figures,
    }


def report(results: dict[str, Any]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    Console().print(f"{results['users']} users; auto chose {results['chosen']['algorithm']}")
    table = Table("model", "ndcg@20", "95 %", "recall@20", "auto minus it", "95 %")
    for label, figures in results["figures"].items():
        ndcg, recall, gap = (figures[n] for n in (f"ndcg@{K}", f"recall@{K}", "auto_minus"))
        table.add_row(
            label,
            f"{ndcg['mean']:.4f}",
            f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
            f"{recall['mean']:.4f}",
            f"{gap['mean']:+.4f}",
            f"{gap['low']:+.4f} to {gap['high']:+.4f}",
        )
    tell("choice", table, results)


def main() -> None:
    """Runs and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="user, item, rating, time")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the choice")
    arguments = parser.parse_args()
    report(run(interactions(arguments.data), AutoConfig(seconds=arguments.seconds)))


if __name__ == "__main__":
    main()
