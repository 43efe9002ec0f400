"""Past answers with what they were made from, and their form in the answer log."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import numpy as np

from engine.answers import Answer, Item, Reason, SourceScore
from engine.filters.compiler import CompiledFilter
from engine.ranking import MMR_DEPTH, Because
from engine.requests import Boost, RecommendQuery
from engine.sources import BY_NAME, Anchor, Inputs
from storage.vector_store import Candidate

MAX_ANCHORS = 200
"""Entities of the context and the history that are kept beside those that led to a candidate."""

_LAYOUT = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """An answer of Recommend with what it was made from.

    What `encode` drops: attributes, vectors other than those that diversity compared, the user's
    profile, and what a model offered that storage left out.

    Attributes:
        answered_at: to the microsecond.
        query: what was asked.
        answer: its items are all that were ranked, up to those that pages may show.
        candidates: what the sources offered, in that order.
        inputs: what the sources started from.
        weights: of the sources.
        seen_excluded: whether entities that the user had seen were kept out.
        settings: others that took part; JSON values.
    """

    answered_at: datetime
    query: RecommendQuery
    answer: Answer
    candidates: Sequence[Candidate]
    inputs: Inputs
    weights: Mapping[str, float]
    seen_excluded: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def found(self) -> dict[str, list[Because]]:
        """By source that chooses its reasons by cosine those of each candidate that was listed."""
        place = {c.entity_no: i for i, c in enumerate(self.candidates)}
        by_cosine = [name for name, source in BY_NAME.items() if source.reasons is not None]
        found: dict[str, list[Because]] = {name: [()] * len(place) for name in by_cosine}
        for item in self.answer.items:
            for reason in item.reasons:
                if reason.source in found:
                    found[reason.source][place[item.entity_no]] = reason.because_of
        return found


def encode(logged: LoggedAnswer) -> bytes:
    """A logged answer as bytes, compressed; numbers keep every bit."""
    answer = logged.answer
    sources = sorted({source for c in logged.candidates for source in c.sources})
    packed: bytes = msgpack.packb(
        [
            _LAYOUT,
            (logged.answered_at - _EPOCH) // _MICROSECOND,
            _pack_query(logged.query),
            [
                _pack_items(logged),
                answer.recommendation_id,
                answer.phase,
                answer.interaction_count,
                answer.candidate_counts,
                answer.model_versions,
                answer.degraded,
            ],
            sources,
            _pack_candidates(logged, {name: i for i, name in enumerate(sources)}),
            _pack_inputs(logged),
            dict(logged.weights),
            logged.seen_excluded,
            dict(logged.settings),
        ]
    )
    return zlib.compress(packed, level=1)


def decode(packed: bytes) -> LoggedAnswer:
    """The logged answer of `encode`.

    Raises:
        ValueError: the bytes are damaged or of a release with another layout.
    """
    try:
        layout, *parts = msgpack.unpackb(zlib.decompress(packed), strict_map_key=False)
        if layout != _LAYOUT:
            raise ValueError(f"a logged answer of layout {layout}, not {_LAYOUT}")
        micros, query, answer, sources, candidates, inputs, weights, seen_excluded, settings = parts
        items, recommendation_id, phase, count, counts, models, degraded = answer
        offered = tuple(_unpack_candidate(row, sources) for row in candidates)
        return LoggedAnswer(
            answered_at=_EPOCH + micros * _MICROSECOND,
            query=_unpack_query(query),
            answer=Answer(
                items=tuple(_unpack_item(row, offered) for row in items),
                recommendation_id=recommendation_id,
                phase=phase,
                interaction_count=count,
                candidate_counts=counts,
                model_versions=tuple(models),
                degraded=tuple(degraded),
            ),
            candidates=offered,
            inputs=_unpack_inputs(inputs),
            weights=weights,
            seen_excluded=seen_excluded,
            settings=settings,
        )
    except (TypeError, IndexError, zlib.error, msgpack.UnpackException) as error:
        raise ValueError("no logged answer") from error


def _pack_items(logged: LoggedAnswer) -> list[Any]:
    place = {c.entity_no: i for i, c in enumerate(logged.candidates)}
    return [
        [
            place[item.entity_no],
            item.score,
            [[r.source, r.share, r.because_of] for r in item.reasons],
            [[s.source, s.raw, s.normalized, s.weight] for s in item.source_scores],
        ]
        for item in logged.answer.items
    ]


def _unpack_item(packed: Sequence[Any], candidates: Sequence[Candidate]) -> Item:
    place, score, reasons, source_scores = packed
    candidate = candidates[place]
    return Item(
        entity_no=candidate.entity_no,
        entity_type=candidate.entity_type,
        entity_id=candidate.entity_id,
        score=score,
        reasons=tuple(Reason(source, share, _names(names)) for source, share, names in reasons),
        source_scores=tuple(SourceScore(*said) for said in source_scores),
    )


def _pack_query(query: RecommendQuery) -> list[Any]:
    return [
        query.user_id,
        query.context,
        query.entity_type,
        query.page_size,
        query.filter and [query.filter.path, query.filter.variables],
        query.exclude,
        query.include_seen,
        [[b.filter.path, b.filter.variables, b.factor] for b in query.boosts],
        query.diversity,
        query.min_score,
        query.explain,
        query.model_version,
        query.record,
        query.asked,
        query.request_hash,
    ]


def _unpack_query(packed: Sequence[Any]) -> RecommendQuery:
    (
        user_id, context, entity_type, page_size, filtered, exclude, include_seen, boosts,
        diversity, min_score, explain, model_version, record, asked, request_hash,
    ) = packed  # fmt: skip
    return RecommendQuery(
        user_id=user_id,
        context=_names(context),
        entity_type=entity_type,
        page_size=page_size,
        filter=CompiledFilter(*filtered) if filtered else None,
        exclude=_names(exclude),
        include_seen=include_seen,
        boosts=tuple(Boost(CompiledFilter(path, names), f) for path, names, f in boosts),
        diversity=diversity,
        min_score=min_score,
        explain=explain,
        model_version=tuple(model_version) if model_version else None,
        record=record,
        asked=asked,
        request_hash=request_hash,
    )


def _pack_candidates(logged: LoggedAnswer, number: Mapping[str, int]) -> list[Any]:
    compared: set[int] = set()
    if logged.query.diversity > 0:
        head = logged.answer.items[: logged.query.page_size * MMR_DEPTH]
        compared = {item.entity_no for item in head}
    return [
        [
            c.entity_no,
            c.entity_type,
            c.entity_id,
            [number[source] for source in c.sources],
            list(c.raws),
            list(c.because),
            list(c.boosts),
            [c.vector.dtype.str, c.vector.tobytes()]
            if c.vector is not None and c.entity_no in compared
            else None,
        ]
        for c in logged.candidates
    ]


def _unpack_candidate(packed: Sequence[Any], names: Sequence[str]) -> Candidate:
    entity_no, entity_type, entity_id, sources, raws, because, boosts, vector = packed
    return Candidate(
        entity_no=entity_no,
        entity_type=entity_type,
        entity_id=entity_id,
        sources=[names[i] for i in sources],
        raws=list(raws),
        because=tuple(because),
        boosts=tuple(boosts),
        vector=np.frombuffer(vector[1], np.dtype(vector[0])) if vector else None,
    )


def _pack_inputs(logged: LoggedAnswer) -> list[Any]:
    inputs = logged.inputs
    led = {number for c in logged.candidates for number in c.because}
    listed = {c.entity_no for c in logged.candidates}
    return [
        inputs.phase,
        [
            [a.entity_no, a.entity_type, a.entity_id, a.weight, a.context]
            for place, a in enumerate(inputs.anchors)
            if place < MAX_ANCHORS or a.entity_no in led
        ],
        inputs.segment,
        inputs.offers,
        [[number, names] for number, names in inputs.because.items() if number in listed],
    ]


def _unpack_inputs(packed: Sequence[Any]) -> Inputs:
    phase, anchors, segment, offers, because = packed
    return Inputs(
        phase=phase,
        profile=None,
        context=None,
        anchors=tuple(
            Anchor(number, kind, name, weight, None, context=context)
            for number, kind, name, weight, context in anchors
        ),
        segment=segment,
        offers=offers,
        because={number: _names(names) for number, names in because},
    )


def _names(packed: Sequence[Sequence[str]]) -> Because:
    return tuple((kind, name) for kind, name in packed)
