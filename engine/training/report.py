"""The report of the automatic choice as text."""

from collections.abc import Mapping
from typing import Any

_HEAD = ("algorithm", "settings", "score", "95 % interval", "seconds", "note")


def report_table(report: Mapping[str, Any], *, tuning: bool = True) -> str:
    """A Markdown table of all that was tried, the chosen one marked, and why it was chosen.

    Args:
        report: of a version that "auto" made.
        tuning: also the settings that a search passed by.
    """
    lines = [
        f"Judged by {report['judged_by']} of {report['users']} users, split: {report['split']}.",
        "",
        _line(_HEAD),
        _line(["---"] * len(_HEAD)),
    ]
    for row in report["trials"]:
        if row["state"] == "tuning" and not tuning:
            continue
        won = is_chosen(row, report)
        bounds = f"{row['low']:.4f} to {row['high']:.4f}" if "low" in row else ""
        note = "**chosen**" if won else row.get("note", "" if bounds else row["state"])
        score = f"{row['score']:.4f}" if "score" in row else ""
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else ""
        settings = described(row["settings"]) or ("defaults" if score else "")
        lines.append(_line([row["algorithm"], settings, score, bounds, seconds, note]))
    return "\n".join([*lines, "", report["chosen"]["why"], ""])


def is_chosen(row: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Whether a row of the report is the contender that won."""
    chosen = report["chosen"]
    same = all(row[key] == chosen.get(key) for key in ("algorithm", "settings"))
    return same and row["state"] == "judged"


def described(settings: Mapping[str, Any]) -> str:
    """Settings in a few words; of a blend its parts with their weights."""
    parts = settings.get("components")
    if parts is not None:
        return " + ".join(f"{part.get('weight', 1.0):g} {part['algorithm']}" for part in parts)
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
