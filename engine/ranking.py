"""From what the sources offer to an ordered list with reasons."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.answers import Item, Reason, SourceScore
from engine.blend import blend
from engine.diversity import mmr
from engine.models.forms.base import MAX_BECAUSE
from engine.requests import RecommendQuery
from engine.sources import BY_NAME, ITEM_TO_ITEM, MODEL, Anchor, Inputs
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
        return []
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
    present = float(by_source.sum()) or 1.0
    reasons = _all_reasons(candidates, names, blended.shares, inputs, found or {})
    listed = scores.tolist()
    return [
        Item(
            entity_no=candidates[i].entity_no,
            entity_type=candidates[i].entity_type,
            entity_id=candidates[i].entity_id,
            score=listed[i],
            reasons=reasons[i],
            attributes=candidates[i].attributes,
            source_scores=_details(
                candidates[i], weights, blended.totals[i], blended.shares[i], number, present
            )
            if explain
            else (),
        )
        for i in order.tolist()
    ]


def rank_as_asked(
    candidates: Sequence[Candidate],
    inputs: Inputs,
    weights: Mapping[str, float],
    query: RecommendQuery,
    found: Mapping[str, Sequence[Because]] | None = None,
) -> list[Item]:
    """`rank` with the boosts, cut and diversity that a request asks for."""
    return rank(
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


class _Causes:
    """Which anchors led a source to a candidate: by cosine, or as the source's statement says."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        names: Sequence[str],
        inputs: Inputs,
        found: Mapping[str, Sequence[Because]],
    ) -> None:
        self._candidates = candidates
        self._names = {a.entity_no: (a.entity_type, a.entity_id) for a in inputs.anchors}
        self._of_model = inputs.because
        self._best = dict(found)
        vectors: NDArray[np.float32] | None = None
        for name in names:
            if name in found:
                continue
            chooses = BY_NAME[name].reasons
            anchors = [
                a
                for a in inputs.anchors
                if chooses is not None and chooses(a) and a.vector is not None
            ]
            if anchors:
                if vectors is None:
                    vectors = unit_rows([c.vector for c in candidates])
                self._best[name] = _nearest(vectors, anchors)

    def of(self, place: int, source: str) -> Because:
        if source == MODEL.name:
            return self._of_model.get(self._candidates[place].entity_no, ())
        if source in self._best:
            return self._best[source][place]
        if source != ITEM_TO_ITEM.name:
            return ()
        because = self._candidates[place].because
        return tuple(self._names[number] for number in because if number in self._names)


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


def _all_reasons(
    candidates: Sequence[Candidate],
    names: Sequence[str],
    shares: NDArray[np.float64],
    inputs: Inputs,
    found: Mapping[str, Sequence[Because]],
) -> list[tuple[Reason, ...]]:
    """Of each candidate its sources by share, the largest first.

    Where the tenant gives every source that led to a candidate no weight, they share equally.
    """
    causes = _Causes(candidates, names, inputs, found)
    orders = np.argsort(-shares, axis=1, kind="stable").tolist()
    return [
        tuple(Reason(names[i], share[i], causes.of(place, names[i])) for i in order if share[i] > 0)
        or tuple(
            Reason(source, 1 / len(candidate.sources), causes.of(place, source))
            for source in candidate.sources
        )
        for place, (candidate, order, share) in enumerate(
            zip(candidates, orders, shares.tolist(), strict=True)
        )
    ]


def _details(
    candidate: Candidate,
    weights: Mapping[str, float],
    total: float,
    shares: NDArray[np.float64],
    number: Mapping[str, int],
    present: float,
) -> tuple[SourceScore, ...]:
    details = []
    for source, raw in zip(candidate.sources, candidate.raws, strict=True):
        weight = weights.get(source, 0.0) / present
        part = float(total * shares[number[source]])
        details.append(SourceScore(source, float(raw), part / weight if weight else 0.0, weight))
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
    stacked = np.stack([v for v in vectors if v is not None]).astype(np.float32)
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    rows = np.zeros((len(vectors), stacked.shape[1]), np.float32)
    rows[present] = np.divide(stacked, norms, out=stacked, where=norms > 0)
    return rows
