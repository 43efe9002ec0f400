"""Models that other programs trained, out of pickle and joblib files that somebody trusts.

Reading such a file runs whatever code it holds: this is for local files of one's own, never for
bytes that came over the wire (https://docs.python.org/3/library/pickle.html, the first warning).
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from storage.exceptions import FailedPrecondition

_IDS = ("item_ids", "items", "entity_ids")
_FACTORS = ("item_factors", "item_embeddings")
_COMPONENTS = ("components_", "components")


@dataclass(frozen=True, slots=True)
class ForeignFactors:
    """What a factor model of another program knows of entities.

    Attributes:
        entity_ids: their ids, none twice.
        factors: float32 (n, f), a row each.
    """

    entity_ids: list[str]
    factors: NDArray[np.float32]


def read_trusted(path: Path) -> ForeignFactors:
    """Reads a pickle or joblib file: a dict or an object with ids and factors of its items.

    Ids are its `item_ids` (or `items`, `entity_ids`); factors its `item_factors` (n, f), or
    `components_` (f, n) as scikit-learn names them, also those of a `model` within.

    Raises:
        FailedPrecondition: ARTEFACT_CORRUPT: it cannot be read, or holds nothing of the kind.
    """
    try:
        loaded = joblib.load(path)
    except (
        pickle.UnpicklingError, EOFError, OSError, ValueError, AttributeError, ImportError,
        KeyError, IndexError,
    ) as error:  # fmt: skip
        raise _unfit(f"cannot be read: {error}") from error
    ids = _find(loaded, _IDS)
    factors = _find(loaded, _FACTORS)
    if factors is None and (components := _find(loaded, _COMPONENTS)) is not None:
        factors = np.asarray(components).T
    if ids is None or factors is None:
        wanted = " and ".join([" or ".join(_IDS), " or ".join((*_FACTORS, *_COMPONENTS))])
        raise _unfit(f"holds no {wanted}")
    try:
        matrix = np.ascontiguousarray(factors, np.float32)
    except (TypeError, ValueError) as error:
        raise _unfit(f"has factors that are no numbers: {error}") from error
    names = [str(name) for name in ids]
    if matrix.ndim != 2 or not names or len(matrix) != len(names):
        raise _unfit(f"has {len(names)} ids and factors of the shape {matrix.shape}")
    if len(set(names)) != len(names):
        raise _unfit("has an id twice")
    if not np.isfinite(matrix).all():
        raise _unfit("has factors that are not finite")
    return ForeignFactors(names, matrix)


def _find(loaded: Any, names: tuple[str, ...]) -> Any:
    for holder in (loaded, _part(loaded, "model")):
        for name in names:
            if holder is not None and (found := _part(holder, name)) is not None:
                return found
    return None


def _part(holder: Any, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    return getattr(holder, name, None)


def _unfit(problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"The file {problem}.", reason="ARTEFACT_CORRUPT")
