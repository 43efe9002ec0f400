"""Context: entities like those the user looks at now."""

from engine.sources.base import CandidateSource

CONTEXT = CandidateSource(
    name="context",
    weights={"unknown": 0.6, "cold": 0.5, "warm": 0.4},
    asks=lambda inputs: inputs.context is not None,
    reasons=lambda anchor: anchor.context,
)
