"""Co-visitation: what users went to within a while of an entity, for short sessions.

Counts of pairs, as in Davidson et al., "The YouTube video recommendation system", RecSys 2010, with
weights for order, distance in time and age.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from engine.models.base import SECONDS_A_DAY, Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.neighbours import NeighbourMatrix, keep_top
from engine.models.linear.weighting import powers, scaled
from engine.models.progress import Phase

_BLOCK_PAIRS = 4_000_000
_MOST_ENTRIES = 60_000_000
_ROOM = 4


class CovisitationConfig(ModelConfig):
    """Hyperparameters of covisitation."""

    window_minutes: float = Field(
        60.0, gt=0, le=525_600, description="most time between the two visits of a pair"
    )
    steps: int = Field(
        20, ge=1, le=200, description="most visits of the user from one of a pair to the other"
    )
    backward: float = Field(
        0.5, ge=0, le=1, description="what a visit says of an earlier one; of a later one it is 1"
    )
    fading: float = Field(
        0.5, ge=0, le=4, description="power of the number of visits between that is divided out"
    )
    popularity: float = Field(
        0.3, ge=0, le=1, description="power of an entity's visits that is divided out of its scores"
    )
    last: int = Field(
        10, ge=1, le=10_000, description="how many of the newest entities of a history count"
    )
    k: int = Field(200, ge=1, le=2000, description="neighbours kept of each entity")
    half_life_days: float | None = Field(
        None, gt=0, description="age at which a pair, and a visit of the history, counts half"
    )
    binary: bool = Field(True, description="every positive weight counts 1")


def fit(data: Interactions, config: CovisitationConfig, progress: Progress) -> NeighbourMatrix:
    """Counts the pairs of visits that are close in time and keeps each entity's strongest.

    A visit is an interaction with a positive weight; repeated visits count each time.
    """
    return NeighbourMatrix.from_matrix(
        data.entity_nos,
        _neighbours(data, config, np.arange(data.n_users, dtype=np.int32), progress),
        binary=config.binary,
        half_life_days=config.half_life_days,
        last=config.last,
    )


def refresh(
    data: Interactions, config: CovisitationConfig, places: NDArray[np.int32], progress: Progress
) -> sparse.csr_matrix:
    """The neighbours of some entities, from the visits of their visitors alone."""
    visitors = np.unique(data.users[np.isin(data.items, places)])
    return _neighbours(data, config, visitors, progress)[places]


def _neighbours(
    data: Interactions,
    config: CovisitationConfig,
    users: NDArray[np.int32],
    progress: Progress,
) -> sparse.csr_matrix:
    """Each entity's strongest pairs among the visits of some users; CSR (n_items, n_items)."""
    progress("counting", 0.0)
    liked = np.flatnonzero(data.weights > 0)
    visited = np.bincount(data.items[liked], minlength=data.n_items).astype(np.float64)
    newest = int(data.times[liked].max()) if len(liked) else 0
    liked = liked[np.isin(data.users[liked], users)]
    # Visits of the same second keep one order, whatever order they were read in.
    order = np.lexsort((data.items[liked], data.times[liked], data.users[liked]))
    visits = data.take(liked[order])
    n = data.n_items
    nowhere = np.empty(0, np.int32)
    counted = sparse.csr_matrix((np.empty(0, np.float32), (nowhere, nowhere)), shape=(n, n))
    for pairs in _pairs(visits, config, newest, Phase(progress, 0, 0.9)):
        counted = counted + pairs
        # What is weak in the middle of the count is given up where there is too much of it.
        if counted.nnz > _MOST_ENTRIES:
            counted = keep_top(counted, max(_ROOM * config.k, 1))
    progress("keeping neighbours", 0.95)
    damped = scaled(counted, powers(visited, -1.0), powers(visited, -config.popularity))
    return keep_top(damped, config.k)


def _pairs(
    visits: Interactions, config: CovisitationConfig, newest: int, progress: Progress
) -> Iterator[sparse.csr_matrix]:
    """Weights of pairs, CSR (items, items), row the one visited and column what it speaks for.

    Args:
        visits: sorted by user and time.
        config: window, steps and weights.
        newest: the time that ages count from.
        progress: told after every part.
    """
    n = visits.n_items
    worth = _worth(visits, config, newest)
    seconds = config.window_minutes * 60
    size = max(1, _BLOCK_PAIRS // (2 * config.steps))
    for start in range(0, len(visits), size):
        end = min(start + size, len(visits))
        rows, columns, values = [], [], []
        earlier = np.arange(start, end)
        for step in range(1, config.steps + 1):
            later = earlier + step
            earlier = earlier[later < len(visits)]
            later = earlier + step
            # Who has no pair at this step has none further on: visits are in order of time.
            near = (visits.users[earlier] == visits.users[later]) & (
                visits.times[later] - visits.times[earlier] <= seconds
            )
            earlier, later = earlier[near], later[near]
            if not len(earlier):
                break
            one, other = visits.items[earlier], visits.items[later]
            value = worth[later] * np.float32(step**-config.fading)
            rows += [one, other]
            columns += [other, one]
            values += [value, value * np.float32(config.backward)]
        if rows:
            row, column = np.concatenate(rows), np.concatenate(columns)
            value = np.concatenate(values)
            kept = (row != column) & (value > 0)
            yield sparse.coo_matrix((value[kept], (row[kept], column[kept])), shape=(n, n)).tocsr()
        progress("counting", end / len(visits))


def _worth(visits: Interactions, config: CovisitationConfig, newest: int) -> NDArray[np.float32]:
    """What each visit counts, by its weight and its age."""
    worth = np.ones(len(visits)) if config.binary else visits.weights.astype(np.float64)
    if config.half_life_days is not None and len(visits):
        ages = (newest - visits.times) / SECONDS_A_DAY
        worth = worth * np.exp2(-ages / config.half_life_days)
    return worth.astype(np.float32)


COVISITATION = Algorithm(
    name="covisitation",
    summary="What users went to within a while of an entity, for short sessions.",
    config=CovisitationConfig,
    fit=fit,
    refresh=refresh,
    grid=(
        CovisitationConfig(),
        CovisitationConfig(last=3),
        CovisitationConfig(window_minutes=24 * 60, last=20),
    ),
)
