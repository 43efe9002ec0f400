"""Item to item: neighbours by co-interaction of the recent history and the context."""

from engine.sources.base import CandidateSource

ITEM_TO_ITEM = CandidateSource(
    name="item_to_item",
    weights={"unknown": 0.4, "cold": 0.3, "warm": 0.45},
    asks=lambda inputs: any(anchor.weight > 0 for anchor in inputs.anchors),
)
