"""From rows in storage to what algorithms learn from: users and entities numbered from 0."""

import numpy as np
from numpy.typing import NDArray

from engine.models.base import Interactions
from storage.training_data import TrainingArrays

_TABLE_ROOM = 1 << 22
"""Entity numbers that spread over fewer than so many (or four a row) are counted in a table."""


def interactions(arrays: TrainingArrays) -> Interactions:
    """The interactions of the arrays.

    Entities are those with an interaction and, where vectors were read, those with a vector.
    """
    user_keys, users = np.unique(arrays.user_keys_of_rows, return_inverse=True)
    if arrays.vectors is None:
        entity_nos, items = _numbered(arrays.entity_nos)
        vectors = None
    else:
        owners, rows = arrays.vectors
        entity_nos, places = _numbered(np.concatenate([arrays.entity_nos, owners]))
        items = places[: len(arrays)]
        vectors = np.zeros((len(entity_nos), rows.shape[1]), np.float16)
        vectors[places[len(arrays) :]] = rows
    return Interactions(
        users.astype(np.int32),
        items.astype(np.int32, copy=False),
        arrays.weights,
        arrays.times,
        entity_nos,
        user_keys,
        vectors,
    )


def _numbered(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The values that occur, ascending, and the place of each among them; values are not sorted."""
    if not len(values):
        return values, np.empty(0, np.int32)
    least = int(values.min())
    width = int(values.max()) - least + 1
    if width > max(_TABLE_ROOM, 4 * len(values)):
        found, places = np.unique(values, return_inverse=True)
        return found, places.astype(np.int32)
    occurs = np.zeros(width, np.bool_)
    occurs[values - least] = True
    place = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(occurs).astype(np.int64) + least, place[values - least]
