"""From what the sources offer to an ordered list with reasons."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.answers import Item, PlainItem, Reason, SourceScore
from engine.blend import Blend, blend
from engine.diversity import mmr
from engine.models.forms.base import MAX_BECAUSE
from engine.requests import RecommendQuery
from engine.sources import BY_NAME, ITEM_TO_ITEM, MODEL, Anchor, Inputs
from engine.turns import Turns
from storage.vector_store import Candidate

Because: TypeAlias = tuple[tuple[str, str], ...]
"""The (type, id) of the entities that led a source to a candidate, strongest first."""

MMR_DEPTH = 5
"""Pages that diversity looks ahead."""

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
    candidates: Sequence[Candidate],
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
    if not candidates:
        nothing = Blend(np.zeros(0), np.zeros((0, 0)))
        return Ranking((), [], [], _Causes((), inputs, {}), [], nothing, None)
    names = sorted({source for c in candidates for source in c.sources})
    number = {name: place for place, name in enumerate(names)}
    items = np.repeat(np.arange(len(candidates)), [len(c.sources) for c in candidates])
    sources = np.array([number[s] for c in candidates for s in c.sources], np.intp)
    raws = np.array([r for c in candidates for r in c.raws], np.float64)
    by_source = np.array([weights.get(name, 0.0) for name in names], np.float64)
    blended = blend(items, sources, raws, by_source, n_items=len(candidates))
    scores = blended.totals.copy()
    for place, factor in enumerate(boost_factors):
        scores[[bool(c.boosts[place]) for c in candidates]] *= factor
    order = np.argsort(-scores, kind="stable")
    if min_score is not None:
        order = order[scores[order] >= min_score]
    if diversity > 0 and len(order) > 1:
        depth = min(len(order), page_size * MMR_DEPTH)
        head = order[:depth]
        vectors = unit_rows([candidates[i].vector for i in head])
        top = scores[head] / max(float(scores[head].max()), 1e-12)
        picked = mmr(top.astype(np.float32), vectors, depth, diversity)
        order = np.concatenate([head[picked], order[depth:]])
    return Ranking(
        candidates,
        order.tolist(),
        scores.tolist(),
        _Causes(candidates, inputs, found or {}),
        names,
        blended,
        weights if explain else None,
    )


def rank(
    candidates: Sequence[Candidate],
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
    candidates: Sequence[Candidate],
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
    candidates: Sequence[Candidate],
    inputs: Inputs,
    weights: Mapping[str, float],
    query: RecommendQuery,
    found: Mapping[str, Sequence[Because]] | None = None,
) -> list[Item]:
    """All that `ranking_as_asked` puts in order."""
    return ranking_as_asked(candidates, inputs, weights, query, found).items()


async def ranking_off_loop(
    candidates: Sequence[Candidate],
    inputs: Inputs,
    weights: dict[str, float],
    query: RecommendQuery,
    turns: Turns,
) -> "Ranking":
    """Ranks; in a thread where that would hold the event loop for long (many rows, diversity)."""
    if len(candidates) > 500 or query.diversity > 0:
        return await asyncio.to_thread(ranking_as_asked, candidates, inputs, weights, query)
    return await turns.do(lambda: ranking_as_asked(candidates, inputs, weights, query))


async def rank_off_loop(
    candidates: Sequence[Candidate],
    inputs: Inputs,
    weights: dict[str, float],
    query: RecommendQuery,
    turns: Turns,
) -> list[Item]:
    """All that `ranking_off_loop` puts in order."""
    return (await ranking_off_loop(candidates, inputs, weights, query, turns)).items()


class _Causes:
    """Which anchors led a source to a candidate: by cosine, or as the source's statement says."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        inputs: Inputs,
        found: Mapping[str, Sequence[Because]],
    ) -> None:
        self._candidates = candidates
        self._names = {a.entity_no: (a.entity_type, a.entity_id) for a in inputs.anchors}
        self._of_model = inputs.because
        self._best: dict[str, Mapping[int, Because]] = {}
        for name, source in BY_NAME.items():
            if source.reasons is None:
                continue
            if name in found:
                self._best[name] = dict(enumerate(found[name]))
                continue
            led = [place for place, c in enumerate(candidates) if name in c.sources]
            anchors = [a for a in inputs.anchors if a.vector is not None and source.reasons(a)]
            if led and anchors:
                vectors = unit_rows([candidates[place].vector for place in led])
                self._best[name] = dict(zip(led, _nearest(vectors, anchors), strict=True))

    def of(self, place: int, source: str) -> Because:
        if source == MODEL.name:
            return self._of_model.get(self._candidates[place].entity_no, ())
        if source in self._best:
            return self._best[source][place]
        if source != ITEM_TO_ITEM.name:
            return ()
        because = self._candidates[place].because
        return tuple(self._names[number] for number in because if number in self._names)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in order; their items are made when they are asked for.

    Attributes:
        candidates: what was ranked.
        order: places in `candidates`, best first, without those that were cut.
        scores: of each candidate.
        names: of the sources, as the columns of the blend's shares.
        weights: by source name, where the sources' own scores are to be told; else None.
    """

    candidates: Sequence[Candidate]
    order: Sequence[int]
    scores: Sequence[float]
    causes: _Causes
    names: Sequence[str]
    blended: Blend
    weights: Mapping[str, float] | None

    def __len__(self) -> int:
        return len(self.order)

    def items(self, start: int = 0, end: int | None = None) -> list[Item]:
        """The items of places start to end of the order."""
        return [
            Item(
                candidate.entity_no,
                candidate.entity_type,
                candidate.entity_id,
                self.scores[place],
                tuple([Reason(*reason) for reason in self._reasons(place)]),
                candidate.attributes,
                self._details(place),
            )
            for place in self.order[start:end]
            for candidate in (self.candidates[place],)
        ]

    def plain(self, start: int, end: int) -> list[PlainItem]:
        """The same as `items` without attributes, for what is packed and not looked at."""
        return [
            [
                candidate.entity_no,
                candidate.entity_type,
                candidate.entity_id,
                self.scores[place],
                self._reasons(place),
                "{}",
                [[d.source, d.raw, d.normalized, d.weight] for d in self._details(place)],
            ]
            for place in self.order[start:end]
            for candidate in (self.candidates[place],)
        ]

    def _reasons(self, place: int) -> list[tuple[str, float, Because]]:
        """A candidate's sources by share, the largest first.

        Where the tenant gives every source that led to it no weight, they share equally.
        """
        sources = self.candidates[place].sources
        if len(sources) == 1:
            return [(sources[0], 1.0, self.causes.of(place, sources[0]))]
        shares = self.blended.shares[place].tolist()
        led = [
            (self.names[i], shares[i], self.causes.of(place, self.names[i]))
            for i in sorted(range(len(shares)), key=lambda i: -shares[i])
            if shares[i] > 0
        ]
        return led or [(s, 1 / len(sources), self.causes.of(place, s)) for s in sources]

    def _details(self, place: int) -> tuple[SourceScore, ...]:
        """What each source said of a candidate; nothing where that is not to be told."""
        if self.weights is None:
            return ()
        candidate = self.candidates[place]
        weights = self.weights
        present = float(sum(weights.get(name, 0.0) for name in self.names)) or 1.0
        total, shares = self.blended.totals[place], self.blended.shares[place]
        details = []
        for source, raw in zip(candidate.sources, candidate.raws, strict=True):
            weight = weights.get(source, 0.0) / present
            part = float(total * shares[self.names.index(source)])
            told = part / weight if weight else 0.0
            details.append(SourceScore(source, float(raw), told, weight))
        return tuple(sorted(details, key=lambda d: (-d.normalized * d.weight, d.source)))


def _nearest(vectors: NDArray[np.float32], anchors: Sequence[Anchor]) -> list[Because]:
    """Of each vector the names of up to three anchors that point its way, nearest first."""
    directions = unit_rows([a.vector for a in anchors])
    if vectors.shape[1] != directions.shape[1]:  # one side has no vector at all
        return [()] * len(vectors)
    cosines = vectors @ directions.T
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :MAX_BECAUSE]
    values = np.take_along_axis(cosines, best, axis=1)
    keys = [(a.entity_type, a.entity_id) for a in anchors]
    return [
        tuple(keys[i] for i, value in zip(row, near, strict=True) if value > 0)
        for row, near in zip(best.tolist(), values.tolist(), strict=True)
    ]


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
    stacked = np.stack([v for v in vectors if v is not None]).astype(np.float32)
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    rows = np.zeros((len(vectors), stacked.shape[1]), np.float32)
    rows[present] = np.divide(stacked, norms, out=stacked, where=norms > 0)
    return rows
