"""What the sources start from, and what storage is asked for them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.offers import ModelOffers
from engine.ranking import unit, unit_rows
from engine.requests import RecommendQuery
from engine.sources import BY_NAME, SOURCES, Anchor, Inputs, Phase
from storage.entities import EntityRow
from storage.situations import UserContext
from storage.tenants import Tenant
from storage.vector_store import CandidateQuery

NEIGHBOURS_OF = 64
"""Anchors whose neighbours count; older ones have faded to a seventh, and cost as much."""

_CONTEXT_WEIGHT = 3.0  # a context entity against one interaction of weight 1
_HISTORY_FADE = 0.97  # of each older entity of the history, for item-to-item
_BY_COSINE = [source.name for source in SOURCES if source.reasons is not None]


def phase_of(context: UserContext, cold_start_interactions: int) -> Phase:
    """Whether a user is unknown, cold or warm."""
    if context.interaction_count == 0:
        return "unknown"
    return "cold" if context.interaction_count < cold_start_interactions else "warm"


def mean_vector(rows: Sequence[EntityRow]) -> NDArray[np.float32] | None:
    """The mean direction of entities, float32 unit vector; None when none has a vector."""
    vectors = [unit(row.feature_vector) for row in rows if row.feature_vector is not None]
    if not vectors:
        return None
    mean = unit(np.sum(vectors, axis=0))
    return mean if mean.any() else None


def make_inputs(
    tenant: Tenant, user: UserContext, looked_at: Sequence[EntityRow], phase: Phase
) -> Inputs:
    """What the sources but a model start from: profile, context and anchors."""
    anchors = [
        Anchor(
            row.entity_no, row.entity_type, row.entity_id, _CONTEXT_WEIGHT,
            None if row.feature_vector is None else unit(row.feature_vector), context=True,
        )
        for row in looked_at
    ]  # fmt: skip
    directions = iter(unit_rows([h.vector for h in user.history if h.vector is not None]))
    anchors += [
        Anchor(
            h.entity_no, h.entity_type, h.entity_id, h.weight * _HISTORY_FADE**place,
            None if h.vector is None else next(directions),
        )
        for place, h in enumerate(user.history)
    ]  # fmt: skip
    profile = None
    if user.accumulator is not None and len(user.accumulator) == tenant.dimension:
        direction = unit(user.accumulator)
        profile = direction if direction.any() else None
    return Inputs(phase, profile, mean_vector(looked_at), tuple(anchors), user.segment)


def candidate_query(
    inputs: Inputs,
    query: RecommendQuery,
    sources: frozenset[str],
    offers: ModelOffers | None = None,
) -> CandidateQuery:
    """What storage is asked for; context entities never recommend themselves."""
    looked_at = tuple((a.entity_type, a.entity_id) for a in inputs.anchors if a.context)
    return CandidateQuery(
        sources=sources,
        limit=min(1000, max(60, 3 * query.page_size)),
        entity_type=query.entity_type or None,
        filter_path=query.filter.path if query.filter else None,
        filter_variables=query.filter.variables if query.filter else None,
        excluded=query.exclude + looked_at,
        seen_by=None if query.include_seen or not query.user_id else query.user_id,
        profile=inputs.profile,
        context=inputs.context,
        history=[(a.entity_no, a.weight) for a in inputs.anchors[:NEIGHBOURS_OF]],
        segment=inputs.segment,
        boosts=[(b.filter.path, b.filter.variables) for b in query.boosts],
        model=offers.ranked if offers else None,
        vectors=list(BY_NAME) if query.diversity > 0 else _BY_COSINE,
    )
