"""The algorithms. A new one is a file here and a line below."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module

from engine.models.base import AnyAlgorithm

ALGORITHMS: tuple[str, ...] = (
    # "module:CONSTANT"; the algorithm's name is that of its constant in small letters.
    "engine.models.item_knn:ITEM_KNN",
    "engine.models.spectral:SPECTRAL",
    "engine.models.ease:EASE",
    "engine.models.slim:SLIM",
    "engine.models.covisitation:COVISITATION",
    "engine.models.content:CONTENT",
    "engine.models.als:ALS",
    "engine.models.bpr:BPR",
    "engine.models.svd:SVD",
    "engine.models.nmf:NMF",
    "engine.models.popularity:POPULARITY",
    "engine.models.trending:TRENDING",
    "engine.models.clusters:CLUSTERS",
    "engine.models.hybrid:HYBRID",
)


class _Algorithms(Mapping[str, AnyAlgorithm]):
    """Algorithms by name, in the order above.

    Each is imported when it is asked for: a worker that serves a model needs none of the libraries
    that train one.
    """

    def __init__(self, specs: tuple[str, ...]) -> None:
        self._specs = {spec.partition(":")[2].lower(): spec for spec in specs}

    def __getitem__(self, name: str) -> AnyAlgorithm:
        return _load(self._specs[name])

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


@cache
def _load(spec: str) -> AnyAlgorithm:
    module, _, constant = spec.partition(":")
    algorithm: AnyAlgorithm = getattr(import_module(module), constant)
    return algorithm


BY_NAME: Mapping[str, AnyAlgorithm] = _Algorithms(ALGORITHMS)

__all__ = ["ALGORITHMS", "BY_NAME"]
