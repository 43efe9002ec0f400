"""Content: entities whose feature vector is near the live profile."""

from engine.sources.base import CandidateSource

CONTENT = CandidateSource(
    name="content",
    weights={"unknown": 0.4, "cold": 0.4, "warm": 0.4},
    asks=lambda inputs: inputs.profile is not None,
    reasons=lambda anchor: not anchor.context and anchor.weight > 0,
)
