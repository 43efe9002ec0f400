"""What a clusters model learned of the users, put where trending and similar users look for it."""

import asyncio

import numpy as np

from engine.models.base import Interactions
from engine.models.forms.clusters import NO_SEGMENT, ClusterModel
from storage.tenants import Tenant
from storage.training_data import TrainingDataStore
from storage.users import UserSegment, UserStore


async def publish_segments(
    tenant: Tenant,
    model: ClusterModel,
    data: Interactions,
    training_data: TrainingDataStore,
    users: UserStore,
) -> int:
    """Gives every user of the training data a segment, in place of all segments before.

    Returns:
        How many users have one.
    """

    def found() -> dict[int, tuple[str, np.ndarray]]:
        histories = data.matrix(model.half_life_days, binary=model.binary)
        factors, segments = model.users(histories), model.segments_of(histories)
        known = np.flatnonzero(segments != NO_SEGMENT).tolist()
        keys = data.user_keys.tolist()
        return {keys[user]: (f"cluster-{segments[user]}", factors[user]) for user in known}

    by_key = await asyncio.to_thread(found)
    ids = await training_data.user_ids(tenant, list(by_key))
    rows = [UserSegment(ids[key], *placed) for key, placed in by_key.items() if key in ids]
    await users.replace_segments(tenant, sorted(rows, key=lambda row: row.user_id))
    return len(rows)
