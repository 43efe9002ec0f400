"""From what the sources offer to an ordered list with reasons."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import native
from engine.blend import Blend, blend
from engine.candidates import Candidates
from engine.causes import Because, Causes, stacked
from engine.diversity import mmr
from engine.item_columns import ItemColumns, columns_of
from engine.items import Item, SourceScore
from engine.requests import RecommendQuery
from engine.sources import BY_NAME, MODEL, Inputs
from engine.turns import Turns

__all__ = [
    "MMR_DEPTH",
    "Because",
    "Ranking",
    "fill_up_weights",
    "rank",
    "rank_as_asked",
    "rank_off_loop",
    "ranking",
    "ranking_as_asked",
    "ranking_off_loop",
    "source_weights",
    "unit",
    "unit_rows",
]

T = TypeVar("T")

MMR_DEPTH = 5
"""Pages that diversity looks ahead."""

_NO_COLUMNS = columns_of(())

_FILL_UP = 1e-3  # of the usual weights: below the last of a model's candidates


def source_weights(inputs: Inputs, overrides: Mapping[str, float]) -> dict[str, float]:
    """The weight of each source for a user's phase, with the tenant's own where it has any.

    A model that has anything to say leads alone, as it was judged, unless the tenant has it
    otherwise.
    """
    leads = inputs.offers and overrides.get(MODEL.name, 1.0) > 0
    return {
        name: overrides.get(
            name, 0.0 if leads and source is not MODEL else source.weights[inputs.phase]
        )
        for name, source in BY_NAME.items()
    }


def fill_up_weights(weights: Mapping[str, float], inputs: Inputs) -> dict[str, float]:
    """Weights that put what the other sources offer behind what a model offers."""
    return {
        name: weights[name] or source.weights[inputs.phase] * _FILL_UP
        for name, source in BY_NAME.items()
    }


def ranking(
    candidates: Candidates,
    inputs: Inputs,
    weights: Mapping[str, float],
    *,
    boost_factors: Sequence[float] = (),
    min_score: float | None = None,
    diversity: float = 0.0,
    page_size: int,
    explain: bool = False,
    found: Mapping[str, Sequence[Because]] | None = None,
) -> "Ranking":
    """Blends, boosts, cuts, orders and diversifies; ties go by entity number.

    Args:
        candidates: each with at least one source, or none for a list that the caller gave.
        weights: by source name.
        boost_factors: multiply the scores of candidates whose boosts match.
        min_score: lower scores are dropped, after boosts.
        diversity: the trade-off of MMR, 0 to 1.
        page_size: how far diversity looks.
        found: by source that chooses its reasons by cosine what it had chosen for each candidate;
            chosen anew where absent.
    """
    if not len(candidates):
        nothing = Blend(np.zeros(0), np.zeros((0, 0)))
        return Ranking(candidates, np.zeros(0, np.intp), np.zeros(0), inputs, {}, nothing, None)
    by_source = np.array([weights.get(name, 0.0) for name in candidates.sources], np.float64)
    blended = blend(
        candidates.items,
        candidates.offered_by,
        candidates.raws,
        by_source,
        n_items=len(candidates),
    )
    scores = blended.totals.copy()
    for place, factor in enumerate(boost_factors):
        scores[[bool(matches[place]) for matches in candidates.boosts]] *= factor
    if native.compiled:
        order = native.kernels.descending(scores)
    else:
        order = np.argsort(-scores, kind="stable")
    if min_score is not None:
        order = order[scores[order] >= min_score]
    if diversity > 0 and len(order) > 1:
        depth = min(len(order), page_size * MMR_DEPTH)
        head = order[:depth]
        vectors = unit_rows([candidates.vectors[i] for i in head.tolist()])
        top = scores[head] / max(float(scores[head].max()), 1e-12)
        picked = mmr(top.astype(np.float32), vectors, depth, diversity)
        order = np.concatenate([head[picked], order[depth:]])
    return Ranking(
        candidates,
        order,
        scores,
        inputs,
        found or {},
        blended,
        weights if explain else None,
    )


def rank(
    candidates: Candidates,
    inputs: Inputs,
    weights: Mapping[str, float],
    *,
    boost_factors: Sequence[float] = (),
    min_score: float | None = None,
    diversity: float = 0.0,
    page_size: int,
    explain: bool = False,
    found: Mapping[str, Sequence[Because]] | None = None,
) -> list[Item]:
    """All that `ranking` puts in order."""
    return ranking(
        candidates,
        inputs,
        weights,
        boost_factors=boost_factors,
        min_score=min_score,
        diversity=diversity,
        page_size=page_size,
        explain=explain,
        found=found,
    ).items()


def ranking_as_asked(
    candidates: Candidates,
    inputs: Inputs,
    weights: Mapping[str, float],
    query: RecommendQuery,
    found: Mapping[str, Sequence[Because]] | None = None,
) -> "Ranking":
    """`ranking` with the boosts, cut and diversity that a request asks for."""
    return ranking(
        candidates,
        inputs,
        weights,
        boost_factors=[b.factor for b in query.boosts],
        min_score=query.min_score,
        diversity=query.diversity,
        page_size=query.page_size,
        explain=query.explain,
        found=found,
    )


def rank_as_asked(
    candidates: Candidates,
    inputs: Inputs,
    weights: Mapping[str, float],
    query: RecommendQuery,
    found: Mapping[str, Sequence[Because]] | None = None,
) -> list[Item]:
    """All that `ranking_as_asked` puts in order."""
    return ranking_as_asked(candidates, inputs, weights, query, found).items()


async def ranking_off_loop(
    candidates: Candidates,
    inputs: Inputs,
    weights: dict[str, float],
    query: RecommendQuery,
    turns: Turns,
    *,
    then: Callable[["Ranking"], T],
) -> T:
    """Ranks; in a thread where that would hold the event loop for long (many rows, diversity).

    Args:
        then: what is made of the ranking at once.
    """

    def work() -> T:
        return then(ranking_as_asked(candidates, inputs, weights, query))

    if _is_long(candidates, query):
        return await asyncio.to_thread(work)
    return await turns.do(work)


async def rank_off_loop(
    candidates: Candidates,
    inputs: Inputs,
    weights: dict[str, float],
    query: RecommendQuery,
    turns: Turns,
) -> list[Item]:
    """All that `ranking_off_loop` puts in order; their reasons are found in the thread, too."""
    if _is_long(candidates, query):
        return await asyncio.to_thread(rank_as_asked, candidates, inputs, weights, query)
    return await turns.do(lambda: rank_as_asked(candidates, inputs, weights, query))


def _is_long(candidates: Candidates, query: RecommendQuery) -> bool:
    return len(candidates) > 500 or query.diversity > 0


@dataclass(slots=True)
class Ranking:
    """Candidates in order; their items are made when they are asked for.

    Attributes:
        candidates: what was ranked.
        order: intp, places in `candidates`, best first, without those that were cut.
        scores: float64, of each candidate.
        inputs, found: what led the sources to the candidates, as `ranking` has it.
        weights: by source name, where the sources' own scores are to be told; else None.
    """

    candidates: Candidates
    order: NDArray[np.intp]
    scores: NDArray[np.float64]
    inputs: Inputs
    found: Mapping[str, Sequence[Because]]
    blended: Blend
    weights: Mapping[str, float] | None
    _made: ItemColumns = field(default=_NO_COLUMNS, init=False)

    def __len__(self) -> int:
        return len(self.order)

    def items(self, start: int = 0, end: int | None = None) -> list[Item]:
        """The items of places start to end of the order."""
        looks = [self.candidates.looks[place] for place in self.order[start:end].tolist()]
        return list(self.columns(start, end).items(looks))

    def columns(self, start: int = 0, end: int | None = None) -> ItemColumns:
        """The same as `items` without what they look like, for what is packed and not looked at."""
        if len(self._made) < len(self.order[:end]):
            self._made = self._columns(self.order[:end])
        return self._made[start:end]

    def _columns(self, places: NDArray[np.intp]) -> ItemColumns:
        names = self.candidates.sources
        causes = Causes(self.candidates, places, self.inputs, self.found)
        reasons, origins, shares, leads, because = self._reasons(places, causes.places)
        explains = self.weights is not None
        told = [self._details(place) for place in places.tolist()] if explains else []
        said = [score for scores in told for score in scores]
        details = np.array([(s.raw, s.normalized, s.weight) for s in said], np.float64)
        return ItemColumns(
            sources=names,
            names=causes.names,
            numbers=self.candidates.numbers[places],
            scores=self.scores[places],
            reasons=reasons,
            origins=origins,
            shares=shares,
            leads=leads,
            because=because,
            told=np.array([len(scores) for scores in told] or [0] * len(places), np.uint8),
            tellers=np.array([names.index(score.source) for score in said], np.uint8),
            details=details.reshape(-1, 3),
        )

    def _reasons(
        self, places: NDArray[np.intp], led: NDArray[np.int32]
    ) -> tuple[
        NDArray[np.uint8],
        NDArray[np.uint8],
        NDArray[np.float64],
        NDArray[np.uint8],
        NDArray[np.uint16],
    ]:
        """`reasons`, `origins`, `shares`, `leads` and `because` of `ItemColumns`.

        Args:
            led: as `Causes.places`.
        """
        if native.compiled:
            return native.kernels.reasons(
                self.blended.shares, places, self.candidates.items, self.candidates.offered_by, led
            )
        by_share, shares = self._by_share(places)
        rows, ranks = np.nonzero(shares > 0)
        origins = by_share[rows, ranks]
        named = led[rows, origins]
        is_named = named >= 0
        return (
            np.bincount(rows, minlength=len(places)).astype(np.uint8),
            origins.astype(np.uint8),
            shares[rows, ranks],
            is_named.sum(axis=1, dtype=np.uint8),
            named[is_named].astype(np.uint16),
        )

    def _by_share(self, places: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Each candidate's sources, the largest share first, and the shares; 0: no reason.

        Where the tenant gives every source that led to one no weight, they share equally.
        """
        shares = self.blended.shares[places]
        by_share = np.argsort(-shares, axis=1, kind="stable")
        shares = np.take_along_axis(shares, by_share, axis=1)
        for row in np.flatnonzero(~(shares > 0).any(axis=1)).tolist():
            said = self.candidates.said(int(places[row]))
            sources = list(dict.fromkeys(self.candidates.offered_by[said].tolist()))
            by_share[row, : len(sources)] = sources
            shares[row, : len(sources)] = 1 / max(1, len(sources))
        return by_share, shares

    def _details(self, place: int) -> tuple[SourceScore, ...]:
        """What each source said of a candidate; nothing where that is not to be told."""
        if self.weights is None:
            return ()
        names, said = self.candidates.sources, self.candidates.said(place)
        weights = self.weights
        present = float(sum(weights.get(name, 0.0) for name in names)) or 1.0
        total, shares = self.blended.totals[place], self.blended.shares[place]
        details = []
        for source, raw in zip(
            self.candidates.offered_by[said].tolist(),
            self.candidates.raws[said].tolist(),
            strict=True,
        ):
            weight = weights.get(names[source], 0.0) / present
            part = float(total * shares[source])
            told = part / weight if weight else 0.0
            details.append(SourceScore(names[source], raw, told, weight))
        return tuple(sorted(details, key=lambda d: (-d.normalized * d.weight, d.source)))


def unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """A vector (d,) brought to length one, float32; a zero vector stays zero."""
    wide = vector.astype(np.float32)
    norm = float(np.linalg.norm(wide))
    return wide / np.float32(norm) if norm > 0 else wide


def unit_rows(vectors: Sequence[NDArray[np.floating] | None]) -> NDArray[np.float32]:
    """Vectors as rows of length one, float32 (n, d); None becomes a row of zeros."""
    present = [place for place, vector in enumerate(vectors) if vector is not None]
    if not present:
        return np.zeros((len(vectors), 1), np.float32)
    wide = stacked([v for v in vectors if v is not None])
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    np.divide(wide, norms, out=wide, where=norms > 0)
    if len(present) == len(vectors):
        return wide
    rows = np.zeros((len(vectors), wide.shape[1]), np.float32)
    rows[present] = wide
    return rows
