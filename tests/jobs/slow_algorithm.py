"""Algorithms that do what tests need: take their time, fail, or learn nonsense."""

import threading
import time
from typing import Literal

import numpy as np

from engine.models.base import Algorithm, Interactions, ModelConfig, Needs, Progress
from engine.models.forms.neighbours import NeighbourMatrix

DEAF, WAKE = threading.Event(), threading.Event()
"""That a deaf fit has begun, and that it is to end."""


class SlowConfig(ModelConfig):
    """What happens in place of a fit."""

    act: Literal["slow", "deaf", "memory", "fault", "nan", "empty"] = "slow"


def fit(data: Interactions, config: SlowConfig, progress: Progress) -> NeighbourMatrix:
    if config.act == "memory":
        raise MemoryError("Unable to allocate 9 TiB")
    if config.act == "fault":
        raise ZeroDivisionError("over\nnothing")
    if config.act == "slow":
        for step in range(300):
            time.sleep(0.05)
            progress("idling", step / 300)
    if config.act == "deaf":
        DEAF.set()
        WAKE.wait(60)
    n = 0 if config.act == "empty" else data.n_items
    return NeighbourMatrix(
        data.entity_nos[:n],
        np.arange(n + 1, dtype=np.int64),
        np.arange(n, dtype=np.int32),
        np.full(n, np.nan if config.act == "nan" else 1.0, np.float32),
    )


SLOW = Algorithm("slow", "Takes its time.", SlowConfig, fit, needs=Needs(1, 1, 1))
