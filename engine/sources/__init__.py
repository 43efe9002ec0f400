"""The candidate sources. A new one is a file here, a .sql file of its name, and a line below."""

from engine.sources.base import Anchor, CandidateSource, Inputs, Phase
from engine.sources.content import CONTENT
from engine.sources.context import CONTEXT
from engine.sources.item_to_item import ITEM_TO_ITEM
from engine.sources.model import MODEL
from engine.sources.newest import NEWEST
from engine.sources.popular import POPULAR
from engine.sources.segment import SEGMENT
from engine.sources.trending import TRENDING

SOURCES: tuple[CandidateSource, ...] = (
    MODEL,
    CONTENT,
    CONTEXT,
    ITEM_TO_ITEM,
    TRENDING,
    POPULAR,
    SEGMENT,
    NEWEST,
)

BY_NAME = {source.name: source for source in SOURCES}

__all__ = [
    "BY_NAME",
    "CONTENT",
    "CONTEXT",
    "ITEM_TO_ITEM",
    "MODEL",
    "NEWEST",
    "SOURCES",
    "Anchor",
    "CandidateSource",
    "Inputs",
    "Phase",
]
