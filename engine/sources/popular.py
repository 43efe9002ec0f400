"""Popular: what most users of the tenant interacted with."""

from engine.sources.base import CandidateSource

POPULAR = CandidateSource(name="popular", weights={"unknown": 0.3, "cold": 0.15, "warm": 0.05})
