"""Logs of data sets, and made-up ones of their shape."""

import time
from pathlib import Path

import numpy as np

from benchmarks import service
from benchmarks.quality_data import Ids, read, times_of

_USERS, _ITEMS = 943, 1_682
ML100K_EVENTS = 100_000
"""Of MovieLens 100k, all three."""


def gowalla(folder: Path) -> service.Log:
    """The train and valid files together: a user a line, then its items."""
    users, items = Ids(), Ids()
    parts = [
        read(folder / f"{part}.txt.gz", "adjacency", users, items) for part in ("train", "valid")
    ]
    who = np.concatenate([part.users for part in parts])
    times = np.full(len(who), int(time.time()) - 86_400, np.int64)
    return service.Log(
        users.names, items.names, who, np.concatenate([part.items for part in parts]), times
    )


def ml100k(folder: Path | None, events: int = ML100K_EVENTS) -> service.Log:
    """MovieLens 100k; without the folder, or for fewer events, made-up data of its shape."""
    now = int(time.time())
    if folder is not None and events == ML100K_EVENTS:
        users, items = Ids(), Ids()
        rows = read(folder / "u.data", "tsv", users, items)
        return service.Log(
            users.names, items.names, rows.users, rows.items, times_of(rows, None, now).train
        )
    draw = np.random.default_rng(0)
    popularity = 1 / np.arange(1, _ITEMS + 1) ** 0.8
    who = draw.integers(0, _USERS, 2 * events)
    what = draw.choice(_ITEMS, 2 * events, p=popularity / popularity.sum())
    pairs = draw.permutation(np.unique(who * _ITEMS + what))[:events]
    return service.Log(
        [f"user-{n}" for n in range(_USERS)],
        [f"item-{n}" for n in range(_ITEMS)],
        (pairs // _ITEMS).astype(np.int32),
        (pairs % _ITEMS).astype(np.int32),
        now - draw.integers(60, 20 * 86_400, len(pairs)),
    )
