"""Newest: the latest entities, asked only when the others leave places empty."""

from engine.sources.base import CandidateSource

NEWEST = CandidateSource(name="newest", weights={"unknown": 0.02, "cold": 0.02, "warm": 0.02})
