"""The measurement of vector indexes, in a small size."""

import argparse
import io
from pathlib import Path

import numpy as np
import orjson
from rich.console import Console

from benchmarks.console import Steps
from benchmarks.index import MODES, SHARES, WIDTHS, run
from benchmarks.index_world import Catalogue


def test_nearest_are_those_that_pass_the_filter() -> None:
    vectors = np.eye(4, dtype=np.float16)
    known = Catalogue(vectors, np.array([1, 100, 1, 199]), vectors[:1], 1)
    assert known.nearest(1.0) == [{0, 1, 2, 3}]
    assert known.nearest(0.01) == [{0, 2}]


async def test_small_index_is_built_and_searched(tmp_path: Path) -> None:
    output = tmp_path / "index.json"
    arguments = argparse.Namespace(
        sizes=[400], dimension=16, pairs=[(8, 64)], queries=10, output=output
    )
    (measured,) = await run(arguments, tmp_path, Steps(Console(file=io.StringIO())))
    assert [each.ef_search for each in measured.plain] == list(WIDTHS)
    assert len(measured.searches) == len(WIDTHS) + len(SHARES) * len(MODES)
    assert measured.plain[-1].recall > 0.99
    assert measured.build.mib > 0
    (written,) = orjson.loads(output.read_bytes())
    assert (written["size"], written["m"], written["ef_construction"]) == (400, 8, 64)
