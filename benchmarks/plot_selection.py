"""Draws what the automatic choice tried: scores with their intervals, best at the top.

Run as `python -m benchmarks.plot_selection REPORT.json OUT.svg`: the report of a version, from
GetModel. Needs matplotlib, which the dev dependencies bring.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.training.report import described, is_chosen


def plot(report: Mapping[str, Any], out: Path) -> None:
    """One row for each contender with its interval; trials of a search as dots on its row.

    Args:
        report: of a version that "auto" made.
        out: .svg, .png or another ending that matplotlib writes.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "penchant"  # the same picture has the same bytes
    judged = [row for row in report["trials"] if row["state"] == "judged"]
    judged.sort(key=lambda row: row["score"])
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.34 * len(judged)), layout="constrained")
    for place, row in enumerate(judged):
        colour = "tab:red" if is_chosen(row, report) else "tab:blue"
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(row["score"], place, "o", color=colour)
        passed = [
            trial["score"]
            for trial in report["trials"]
            if trial["state"] == "tuning" and trial["algorithm"] == row["algorithm"]
        ]
        best = max(r["score"] for r in judged if r["algorithm"] == row["algorithm"])
        if row["score"] == best:
            axes.plot(passed, [place] * len(passed), ".", color="tab:gray", markersize=4, zorder=0)
    axes.set_yticks(range(len(judged)), [_label(row) for row in judged], fontsize=8)
    axes.set_xlabel(f"{report['judged_by']}, {report['users']} users, 95 % interval (chosen: red)")
    axes.grid(axis="x", linewidth=0.4)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    pyplot.close(figure)


def _label(row: Mapping[str, Any]) -> str:
    settings = described(row["settings"])
    text = f"{row['algorithm']} ({settings})" if settings else row["algorithm"]
    return text if len(text) <= 60 else text[:57] + "..."


def main() -> None:
    """Reads the report, draws it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    plot(json.loads(given.report.read_text()), given.out)


if __name__ == "__main__":
    main()
