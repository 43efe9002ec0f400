"""A model on held-out interactions: full catalogue, what users already had masked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.evaluation.bootstrap import intervals
from engine.evaluation.metrics import Ranked, list_metrics, ranking_metrics
from engine.models.base import Progress, no_progress
from engine.models.forms.base import History, ServingModel

KS = (10, 20)
"""List lengths that nobody has chosen others for."""

_CELLS = 40_000_000
_AT_ONCE = 200
_SPAN = 128


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model did.

    Attributes:
        means: every metric at every k, such as "ndcg@20".
        per_user: those that users have values of, float64 (users,), in the order of `users`.
        bounds: of the same metrics the 95 % interval, as "ndcg@20.low" and "ndcg@20.high".
        users: int (n,), the users it is a mean over.
    """

    means: dict[str, float]
    per_user: Mapping[str, NDArray[np.float64]]
    bounds: dict[str, float]
    users: NDArray[np.intp]

    @property
    def metrics(self) -> dict[str, float]:
        """Means and bounds in one, as a version keeps them."""
        return self.means | self.bounds


@dataclass(frozen=True, slots=True)
class Judged:
    """Users, what models see of them, and what they shall find.

    Attributes:
        histories: CSR (users, items), what the users did before.
        relevant: CSR (users, items), what they did later and had not done before.
        users: int (n,), which rows of the whole they are.
        ages: float32 (nnz,), days since each entity of `histories`; None: not known.
    """

    histories: sparse.csr_matrix
    relevant: sparse.csr_matrix
    users: NDArray[np.intp]
    ages: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        train: sparse.csr_matrix,
        held_out: sparse.csr_matrix,
        users: NDArray[np.intp] | None = None,
    ) -> Self:
        """Those of the users (default: all) for whom something is left to be found.

        Args:
            train: CSR (all users, items) of weights.
            held_out: CSR of the same shape, its stored entries are relevant.
        """
        new = _ones(held_out) - _ones(held_out).multiply(_ones(train)).tocsr()
        new.eliminate_zeros()
        among = np.arange(train.shape[0]) if users is None else np.asarray(users, np.intp)
        kept = among[np.diff(new.indptr)[among] > 0]
        return cls(train[kept], new[kept], kept)

    def rank(self, model: ServingModel, k: int, progress: Progress = no_progress) -> Ranked:
        """The model's k best entities of each user, best first, -1 behind the end.

        Entities of a user's history are left out, and those that score nothing or less, as no
        form serves them. Works in blocks of users, so that the dense scores stay small.
        """
        n, n_items = self.histories.shape
        ranked = np.full((n, k), -1, np.int32)
        block = int(np.clip(_CELLS // max(n_items, 1), 1, 1000))
        for start in range(0, n, block):
            progress("evaluating", start / n)
            histories = self.histories[start : start + block]
            scores = np.array(model.score_all(histories), np.float32)
            rows = np.repeat(np.arange(len(scores)), np.diff(histories.indptr))
            scores[rows, histories.indices] = -np.inf
            ranked[start : start + block] = _top(scores, k)
        return ranked

    def rank_served(self, model: ServingModel, k: int, progress: Progress = no_progress) -> Ranked:
        """As `rank`, but user by user as a worker asks, so that ages and order count. Slower."""
        ranked = np.full((self.histories.shape[0], k), -1, np.int32)
        nothing = np.empty(0, np.int32)
        for row, history in enumerate(self._each()):
            if row % _AT_ONCE == 0:
                progress("evaluating", row / len(ranked))
            items = model.top(history, k, nothing).items
            ranked[row, : len(items)] = items
        return ranked

    def _each(self) -> Sequence[History]:
        matrix = self.histories
        ages = np.zeros(matrix.nnz, np.float32) if self.ages is None else self.ages
        found = []
        for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
            newest = start + np.argsort(ages[start:end], kind="stable")
            found.append(
                History(
                    matrix.indices[newest].astype(np.int32),
                    matrix.data[newest].astype(np.float32),
                    ages[newest],
                )
            )
        return found


def _ones(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    ones = np.ones(matrix.nnz, np.float32)
    return sparse.csr_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Columns of the k largest scores of each row, largest first; -1 where not above zero.

    Equal scores by column. The k-th largest of the maxima of spans of columns is at most the k-th
    largest score, so few scores reach it: several times faster than a partition of all.
    """
    n, n_items = scores.shape
    edges = np.zeros(n, np.float32)
    whole = n_items // _SPAN * _SPAN
    if whole // _SPAN > k:
        maxima = scores[:, :whole].reshape(n, -1, _SPAN).max(axis=2)
        edges = np.maximum(-np.partition(-maxima, k - 1, axis=1)[:, k - 1], 0)
    rows, columns = np.nonzero((scores >= edges[:, None]) & (scores > 0))
    order = np.lexsort((columns, -scores[rows, columns], rows))
    counts = np.bincount(rows, minlength=n)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = places < k
    ranked = np.full((n, k), -1, np.int32)
    ranked[rows[kept], places[kept]] = columns[order][kept]
    return ranked


def measured(
    judged: Judged, ranked: Ranked, train: sparse.csr_matrix, ks: Sequence[int] = KS
) -> Evaluation:
    """Every metric at every k of lists that are there; `train` is all users' matrix."""
    per_user = ranking_metrics(ranked, judged.relevant, ks)
    found = intervals(per_user)
    means = {name: interval.mean for name, interval in found.items()}
    bounds = {f"{name}.low": interval.low for name, interval in found.items()}
    bounds |= {f"{name}.high": interval.high for name, interval in found.items()}
    return Evaluation(means | list_metrics(ranked, train, ks), per_user, bounds, judged.users)


def evaluate(
    model: ServingModel,
    train: sparse.csr_matrix,
    held_out: sparse.csr_matrix,
    ks: Sequence[int] = KS,
    users: NDArray[np.intp] | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Every metric at every k, as means over users with bootstrap intervals.

    Args:
        train: CSR (all users, items): histories; their items are never recommended.
        held_out: CSR of the same shape: what is to be found. Pairs of train do not count.
        ks: list lengths, each at least 1.
        users: only these; those of them with nothing to be found are left out. Default: all.
    """
    judged = Judged.of(train, held_out, users)
    return measured(judged, judged.rank(model, max(ks), progress), train, ks)
