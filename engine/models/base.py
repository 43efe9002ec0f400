"""What a model is made from and how it is made: interactions, configuration, fit, progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from engine.models.forms.base import ServingModel

SECONDS_A_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Interactions:
    """A tenant's interactions as arrays: one place each, in no particular order.

    Attributes:
        users: int32 (n,), 0 to n_users - 1.
        items: int32 (n,), places in entity_nos.
        weights: float32 (n,), finite; negative for dislike. Explicit ratings come as weights.
        times: int64 (n,), seconds since 1970.
        entity_nos: int64 (n_items,), ascending, no number twice.
        user_keys: int64 (n_users,), what stands for a user's id in storage.
        vectors: float16 (n_items, dimension) feature vectors, rows of zeros where an entity has
            none; None where they were not read.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    times: NDArray[np.int64]
    entity_nos: NDArray[np.int64]
    user_keys: NDArray[np.int64]
    vectors: NDArray[np.float16] | None = None

    @property
    def n_users(self) -> int:
        """How many users there are, those without an interaction here included."""
        return len(self.user_keys)

    @property
    def n_items(self) -> int:
        """How many entities there are, those without an interaction here included."""
        return len(self.entity_nos)

    def __len__(self) -> int:
        """How many interactions there are."""
        return len(self.users)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Interactions":
        """Some of the interactions, over the same users and entities."""
        return Interactions(
            self.users[which],
            self.items[which],
            self.weights[which],
            self.times[which],
            self.entity_nos,
            self.user_keys,
            self.vectors,
        )

    def matrix(
        self, half_life_days: float | None = None, *, binary: bool = False
    ) -> sparse.csr_matrix:
        """Users by entities, float32 CSR with sorted columns; places of a pair are summed.

        Args:
            half_life_days: an interaction that much older than the newest one counts half; None:
                age does not matter.
            binary: 1 for every pair with a positive sum. Otherwise the sums; pairs whose sum is
                not positive are left out either way.
        """
        weights = self.weights.astype(np.float64)
        if half_life_days is not None and len(self):
            ages = (self.times.max() - self.times) / SECONDS_A_DAY
            weights *= np.exp2(-ages / half_life_days)
        summed = sparse.coo_matrix(
            (weights.astype(np.float32), (self.users, self.items)),
            shape=(self.n_users, self.n_items),
        ).tocsr()
        summed.sum_duplicates()
        summed.data[summed.data <= 0] = 0
        summed.eliminate_zeros()
        if binary:
            summed.data[:] = 1
        summed.sort_indices()
        return summed


class Cancelled(Exception):
    """The training was told to stop."""


class Progress(Protocol):
    """Told how far a fit has come; raises Cancelled when it is to stop."""

    def __call__(self, phase: str, share: float) -> None:
        """A phase by name ("factorising") and the share of the whole that is done, 0 to 1."""


def no_progress(phase: str, share: float) -> None:
    """For whom nobody waits."""


class ModelConfig(BaseModel):
    """Hyperparameters of an algorithm: a default, a limit and a description for every field.

    `half_life_days` and `binary` are named so wherever they go to `Interactions.matrix`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=ModelConfig)


@dataclass(frozen=True, slots=True)
class Needs:
    """The least that an algorithm can learn from."""

    users: int = 2
    items: int = 2
    interactions: int = 10


Judge = Callable[[ServingModel], float]
"""What a model is worth on fixed validation users: the sum of Recall@20 and NDCG@20."""


@dataclass(frozen=True, slots=True)
class Trial(Generic[C]):
    """One setting that was tried: what it scored, and how long that took in seconds."""

    config: C
    score: float
    seconds: float


class Tune(Protocol[C]):
    """Looks for good settings of an algorithm, sharing work between trials."""

    def __call__(
        self, train: Interactions, judge: Judge, seconds: float, progress: Progress
    ) -> Sequence[Trial[C]]:
        """Trials, none begun after so many seconds; at least one. The last is the one to take.

        Its score is that of the model as it would be served (cut to K); others may have a higher
        one that is put down to noise.
        """


Refresh = Callable[[Interactions, C, NDArray[np.int32], Progress], sparse.csr_matrix]
"""Rows of a neighbour matrix made anew: data, config, the rows' places ascending, progress; float32
CSR (rows, n_items), cut to K as a fit cuts them."""


@dataclass(frozen=True, slots=True)
class Algorithm(Generic[C]):
    """One way to learn; registered in `engine.models`.

    Attributes:
        name: as in CreateModel.
        summary: one sentence for ListAlgorithms.
        config: the class of its hyperparameters.
        fit: makes a model. Reports progress often enough to be cancelled within some seconds.
        needs: checked before a fit.
        refuse: says why a fit of that size cannot be done (memory), or None.
        tune: looks for settings; None: `auto` tries `grid`.
        grid: settings worth trying; the defaults when empty.
        refresh: makes some rows of its NeighbourMatrix anew; None: only whole fits.
    """

    name: str
    summary: str
    config: type[C]
    fit: Callable[[Interactions, C, Progress], ServingModel]
    needs: Needs = field(default_factory=Needs)
    refuse: Callable[[Interactions, C], str | None] = lambda _data, _config: None
    tune: Tune[C] | None = None
    grid: tuple[C, ...] = ()
    refresh: Refresh[C] | None = None


AnyAlgorithm = Algorithm[Any]
