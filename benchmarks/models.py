"""Training and scoring beside their references, in one run, on one machine.

`implicit`'s ALS called bare on a ready matrix against the same fit of engine.models, which counts
the interactions into a matrix, fits, and makes the serving form; and the CPU time in which a
neighbour matrix scores one history and takes the best. `make bench` runs it.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from rich.table import Table
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.console import tell
from benchmarks.quality_data import Ids, read
from engine.models import item_knn
from engine.models.als import ALS, AlsConfig
from engine.models.base import Interactions, no_progress
from engine.models.forms import History, NeighbourMatrix
from engine.models.item_knn import ItemKnnConfig

HISTORY = 27
WANTED = 100
USERS, ITEMS, LINKS = 30_000, 41_000, 810_000


def interactions_of(users: NDArray[np.int32], items: NDArray[np.int32]) -> Interactions:
    """Interactions of weight one at one time."""
    return Interactions(
        users,
        items,
        np.ones(len(users), np.float32),
        np.zeros(len(users), np.int64),
        np.arange(int(items.max()) + 1, dtype=np.int64),
        np.arange(int(users.max()) + 1, dtype=np.int64),
    )


def gowalla(directory: Path) -> Interactions:
    """The train and valid files: a user a line, then its items."""
    users, items = Ids(), Ids()
    parts = [
        read(directory / f"{part}.txt.gz", "adjacency", users, items) for part in ("train", "valid")
    ]
    return interactions_of(
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.items for part in parts]),
    )


def invented() -> Interactions:
    """As many users, entities and interactions, with popularity and activity as skewed."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, ITEMS + 1) ** 0.6
    items = rng.choice(ITEMS, 2 * LINKS, p=popularity / popularity.sum()).astype(np.int32)
    activity = rng.lognormal(0, 1, USERS)
    users = rng.choice(USERS, 2 * LINKS, p=activity / activity.sum()).astype(np.int32)
    pairs = np.unique(users.astype(np.int64) * ITEMS + items)
    pairs = rng.permutation(pairs)[:LINKS]
    return interactions_of((pairs // ITEMS).astype(np.int32), (pairs % ITEMS).astype(np.int32))


def seconds_of(work) -> float:
    """Wall time."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def fits(data: Interactions, config: AlsConfig, rounds: int) -> dict[str, float]:
    """The least of some rounds of each, in turn, so that other load falls on both."""
    matrix = data.matrix()
    settings = config.model_dump(exclude={"half_life_days", "binary"})

    def bare() -> None:
        with threadpool_limits(1, "blas"):
            AlternatingLeastSquares(**settings).fit(matrix, show_progress=False)

    took: dict[str, list[float]] = {"bare": [], "engine": []}
    for _ in range(rounds):
        took["bare"].append(seconds_of(bare))
        took["engine"].append(seconds_of(lambda: ALS.fit(data, config, no_progress)))
    bare_s, engine_s = min(took["bare"]), min(took["engine"])
    return {"bare_s": bare_s, "engine_s": engine_s, "ratio": engine_s / bare_s}


def histories_of(data: Interactions, count: int) -> list[History]:
    """Histories of some users with enough interactions, their first ones."""
    matrix: sparse.csr_matrix = data.matrix()
    rng = np.random.default_rng(1)
    enough = rng.permutation(np.flatnonzero(np.diff(matrix.indptr) >= HISTORY))
    return [
        History(
            rng.permutation(matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]])[
                :HISTORY
            ].astype(np.int32),
            np.ones(HISTORY, np.float32),
            np.arange(HISTORY, dtype=np.float32),
        )
        for user in enough[:count]
    ]


def full_rows(data: Interactions, k: int) -> NeighbourMatrix:
    """Rows of k entities each, as popular as in the data: none is dearer to score."""
    rng = np.random.default_rng(2)
    n = data.n_items
    rows = []
    for _ in range(n):
        drawn = np.unique(data.items[rng.integers(0, len(data), 3 * k)])
        rows.append(np.sort(rng.permutation(drawn)[:k]))
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = np.concatenate(rows)
    values = rng.random(len(columns), np.float32) - np.float32(0.2)
    matrix = sparse.csr_matrix((values, columns, indptr), shape=(n, n))
    return NeighbourMatrix.from_matrix(data.entity_nos, matrix)


def scoring(model: NeighbourMatrix, histories: list[History]) -> dict[str, float]:
    """CPU milliseconds of a call, reasons included."""
    took = []
    for history in histories[:50]:
        model.top(history, WANTED, history.items)
    for history in histories:
        begin = time.process_time_ns()
        model.top(history, WANTED, history.items)
        took.append((time.process_time_ns() - begin) / 1e6)
    p50, p99 = np.percentile(took, [50, 99])
    entries = np.mean([np.diff(model.indptr)[history.items].sum() for history in histories])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "entries": float(entries)}


def run(data: Interactions, *, rounds: int, config: AlsConfig) -> dict[str, dict[str, float]]:
    """Measures everything once."""
    neighbours = item_knn.fit(data, ItemKnnConfig(), no_progress)
    histories = histories_of(data, 2000)
    return {
        "score and take the best, item_knn": scoring(neighbours, histories),
        "score and take the best, full rows": scoring(full_rows(data, 500), histories),
        "fit ALS": fits(data, config, rounds),
    }


def report(results: dict[str, dict[str, float]]) -> None:
    """One table, and the same as JSON under benchmarks/results."""
    table = Table("work", "figure", "value")
    for name, figures in results.items():
        for figure, value in figures.items():
            table.add_row(name, figure, f"{value:.3f}")
    tell("models", table, results)


def main() -> None:
    """Runs and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gowalla", type=Path, help="the directory of train and valid .txt.gz")
    parser.add_argument("--smoke", action="store_true", help="small, to see that it runs")
    arguments = parser.parse_args()
    data = gowalla(arguments.gowalla) if arguments.gowalla else invented()
    if arguments.smoke:
        report(run(data, rounds=1, config=AlsConfig(factors=16, iterations=2)))
    else:
        report(run(data, rounds=3, config=AlsConfig()))


if __name__ == "__main__":
    main()
