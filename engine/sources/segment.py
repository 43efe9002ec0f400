"""Segment: what most users of the caller's segment interacted with."""

from engine.sources.base import CandidateSource

SEGMENT = CandidateSource(
    name="segment",
    weights={"unknown": 0.5, "cold": 0.25, "warm": 0.08},
    asks=lambda inputs: bool(inputs.segment),
)
