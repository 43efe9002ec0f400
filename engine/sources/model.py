"""Model: what the tenant's trained model offers; it leads wherever it has anything to say."""

from engine.sources.base import CandidateSource

MODEL = CandidateSource(
    name="model",
    weights={"unknown": 1.0, "cold": 1.0, "warm": 1.0},
    asks=lambda inputs: inputs.offers,
)
