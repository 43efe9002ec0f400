"""Trending: what gathered the most interactions in the tenant's window."""

from engine.sources.base import CandidateSource

TRENDING = CandidateSource(name="trending", weights={"unknown": 0.6, "cold": 0.25, "warm": 0.08})
