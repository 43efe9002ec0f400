"""Parting interactions into what is learned from and what is to be found.

A pair of a user and an entity is never on both sides: lists do not show what a user already had,
so a pair with one foot in the training could not be found. A pair's time is its first
interaction's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.base import SECONDS_A_DAY, Interactions

SHARE = 0.1
SEED = 42


@dataclass(frozen=True, slots=True)
class Split:
    """Two parts over the same users and entities; `held_out` holds nothing that `train` knows."""

    train: Interactions
    held_out: Interactions


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of user and entity: the place of each interaction's pair, and facts of each pair."""

    of_interaction: NDArray[np.intp]
    users: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, data: Interactions) -> "_Pairs":
        keys = data.users.astype(np.int64) * max(data.n_items, 1) + data.items
        distinct, of_interaction = np.unique(keys, return_inverse=True)
        times = np.full(len(distinct), np.iinfo(np.int64).max)
        np.minimum.at(times, of_interaction, data.times)
        return cls(of_interaction, distinct // max(data.n_items, 1), times)

    def split(self, data: Interactions, held_out: NDArray[np.bool_]) -> Split:
        """Pairs that are held out go with all their interactions."""
        which = held_out[self.of_interaction]
        return Split(data.take(~which), data.take(which))


def since(data: Interactions, time: int) -> Split:
    """Pairs that began at that time (epoch seconds) or later are held out.

    Later interactions of pairs that began before are in neither part: they were yet to come, and
    there is nothing to be found in them.
    """
    pairs = _Pairs.of(data)
    late = data.times >= time
    return Split(data.take(~late), data.take(late & (pairs.times >= time)[pairs.of_interaction]))


def temporal(data: Interactions, share: float = SHARE) -> Split:
    """The newest share of all interactions is held out."""
    if not len(data):
        return Split(data, data)
    ordered = np.sort(data.times)
    at = int(ordered[min(int(np.ceil(len(ordered) * (1 - share))), len(ordered) - 1)])
    return since(data, at)


def leave_last_out(data: Interactions, share: float | None = None) -> Split:
    """Of each user with at least two entities the newest one is held out, or the newest share.

    Of equal times the entity of the highest place counts as the newest.
    """
    return _by_user(data, share, lambda pairs: pairs.times)


def random(data: Interactions, share: float = SHARE, seed: int = SEED) -> Split:
    """Of each user with at least two entities a random share, rounded and at least one."""
    rng = np.random.default_rng(seed)
    return _by_user(data, share, lambda pairs: rng.random(len(pairs.users)))


def _by_user(
    data: Interactions, share: float | None, order: Callable[[_Pairs], NDArray[np.generic]]
) -> Split:
    """Holds out the last pairs of each user in an order, and keeps at least one."""
    pairs = _Pairs.of(data)
    by_user = np.lexsort((order(pairs), pairs.users))
    counts = np.bincount(pairs.users, minlength=data.n_users)
    wanted = np.ones(len(counts)) if share is None else np.maximum(np.rint(counts * share), 1)
    wanted = np.minimum(wanted, np.maximum(counts - 1, 0))
    ends = np.cumsum(counts)
    places_from_end = np.repeat(ends, counts) - np.arange(len(by_user)) - 1
    held_out = np.zeros(len(by_user), np.bool_)
    held_out[by_user] = places_from_end < np.repeat(wanted, counts)
    return pairs.split(data, held_out)


def spans_days(data: Interactions) -> bool:
    """Whether there is more than a day between the first and the last interaction.

    Times that were never known, or are those of a bulk load, lie closer together.
    """
    return len(data) > 0 and int(data.times.max() - data.times.min()) > SECONDS_A_DAY


def users_return(data: Interactions) -> bool:
    """Whether at least half of the users with two entities or more met them over more than a day.

    The order within one sitting is mostly that of the pages that were shown.
    """
    pairs = _Pairs.of(data)
    first = np.full(data.n_users, np.iinfo(np.int64).max)
    last = np.full(data.n_users, np.iinfo(np.int64).min)
    np.minimum.at(first, pairs.users, pairs.times)
    np.maximum.at(last, pairs.users, pairs.times)
    several = np.bincount(pairs.users, minlength=data.n_users) > 1
    return bool(several.any() and np.mean((last - first)[several] > SECONDS_A_DAY) >= 0.5)


SPLITS: dict[str, Callable[[Interactions], Split]] = {
    "temporal": temporal,
    "leave_last_out": leave_last_out,
    "random": random,
}
"""The splits of EvaluateModel by name."""

DEFAULT_SPLIT = "temporal"
