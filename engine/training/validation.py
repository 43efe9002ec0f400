"""The validation part: what is held out, whom models are judged on, and how."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.evaluation import splits
from engine.evaluation.evaluate import Evaluation, Judged, measured
from engine.evaluation.metrics import Ranked, ranking_metrics
from engine.models.base import SECONDS_A_DAY, Interactions, Progress, no_progress
from engine.models.forms.base import ServingModel
from engine.training.auto import AutoConfig

K = 20
ENOUGH_USERS = 500
"""Fewer users than these make intervals too wide to tell good models apart."""

# Settings differ by a percent or less, which on 4,000 users is chance; one judgement shall still
# take no more than some seconds.
_USERS = (4_000, 20_000)
_SCORES = 330e6


@dataclass(frozen=True, slots=True)
class Validation:
    """What is learned from, and whom and what it is tried on.

    Attributes:
        train: the training part.
        judged: users with a history in it and something to be found.
        split: how it was made, for the report.
    """

    train: Interactions
    judged: Judged
    split: str

    @classmethod
    def of(cls, data: Interactions, config: AutoConfig) -> Self:
        """As the settings say; where they leave it open, what the times allow.

        The newest interactions, as a server will meet them, if enough users are on both sides;
        else the newest share of each user, if users come back on other days; else a random share
        of each user.
        """
        if config.holdout_after is not None:
            return cls._made(splits.since(data, config.holdout_after), "holdout_after", config)
        if config.split is not None:
            return cls._named(data, config.split, config)
        if splits.spans_days(data):
            newest = cls._named(data, "temporal", config)
            if len(newest.judged.users) >= ENOUGH_USERS:
                return newest
            if splits.users_return(data):
                parts = splits.leave_last_out(data, config.share)
                return cls._made(parts, "newest of each user", config)
        return cls._named(data, "random", config)

    @classmethod
    def _named(cls, data: Interactions, name: str, config: AutoConfig) -> Self:
        if name == "temporal":
            parts = splits.temporal(data, config.share)
        elif name == "leave_last_out":
            parts = splits.leave_last_out(data)
        else:
            parts = splits.random(data, config.share, config.seed)
        return cls._made(parts, name, config)

    @classmethod
    def _made(cls, parts: splits.Split, name: str, config: AutoConfig) -> Self:
        matrix = parts.train.matrix()
        known = np.flatnonzero(np.diff(matrix.indptr))
        judged = Judged.of(matrix, parts.held_out.matrix(binary=True), known)
        most = config.users or int(np.clip(_SCORES / max(matrix.shape[1], 1), *_USERS))
        if len(judged.users) > most:
            rng = np.random.default_rng(config.seed)
            some = np.sort(rng.choice(len(judged.users), most, replace=False))
            judged = Judged(judged.histories[some], judged.relevant[some], judged.users[some])
        return cls(parts.train, _aged(judged, parts.train), name)

    @property
    def by_time(self) -> bool:
        """Whether age can matter: later interactions are judged on, and days lie between."""
        return self.split != "random" and splits.spans_days(self.train)

    def rank(self, model: ServingModel, progress: Progress = no_progress) -> Ranked:
        """The model's lists, (users, 20); by what it serves where age or order matter to it."""
        settings = model.settings()
        if settings.get("half_life_days") is not None or settings.get("last") is not None:
            return self.judged.rank_served(model, K, progress)
        return self.judged.rank(model, K, progress)

    def values(self, ranked: Ranked) -> NDArray[np.float64]:
        """Recall@20 + NDCG@20 of each user: what models are judged by; float64 (users,)."""
        found = ranking_metrics(ranked, self.judged.relevant, (K,), ("recall", "ndcg"))
        return found[f"recall@{K}"] + found[f"ndcg@{K}"]

    def evaluation(self, ranked: Ranked) -> Evaluation:
        """All metrics of lists, at 10 and 20."""
        return measured(self.judged, ranked, self.train.matrix())


def _aged(judged: Judged, train: Interactions) -> Judged:
    """With the days from each pair's last interaction to the newest of all."""
    if not len(train):
        return replace(judged, ages=np.empty(0, np.float32))
    keys = train.users.astype(np.int64) * train.n_items + train.items
    order = np.lexsort((train.times, keys))
    last = np.append(keys[order][1:] != keys[order][:-1], True)
    ages = (train.times.max() - train.times[order][last]) / SECONDS_A_DAY
    histories = judged.histories
    owners = np.repeat(judged.users, np.diff(histories.indptr)).astype(np.int64)
    at = np.searchsorted(keys[order][last], owners * train.n_items + histories.indices)
    return replace(judged, ages=ages[at].astype(np.float32))
