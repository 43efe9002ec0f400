import json
import subprocess
import sys
from pathlib import Path

from engine.training.report import report_table

REPORT = {
    "judged_by": "recall@20 + ndcg@20",
    "split": "random",
    "users": 240,
    "trials": [
        {
            "algorithm": "popularity", "settings": {}, "state": "judged",
            "score": 0.2, "low": 0.18, "high": 0.22, "seconds": 0.04,
        },
        {
            "algorithm": "spectral", "settings": {"t": 0.2}, "state": "tuning",
            "score": 0.5, "seconds": 3.0,
        },
        {
            "algorithm": "spectral", "settings": {}, "state": "judged",
            "score": 0.55, "low": 0.5, "high": 0.6, "seconds": 9.0,
        },
        {
            "algorithm": "hybrid", "state": "judged", "score": 0.54, "low": 0.49, "high": 0.6,
            "settings": {"components": [
                {"algorithm": "spectral"}, {"algorithm": "ease", "weight": 0.3},
            ]},
            "seconds": 12.0,
        },
        {"algorithm": "slim", "settings": {}, "state": "skipped", "note": "a|b"},
    ],
    "chosen": {"algorithm": "spectral", "settings": {}, "score": 0.55, "why": "It is the best."},
}  # fmt: skip


def test_report_table_marks_the_chosen_one():
    assert report_table(REPORT).splitlines() == [
        "Judged by recall@20 + ndcg@20 of 240 users, split: random.",
        "",
        "| algorithm | settings | score | 95 % interval | seconds | note |",
        "| --- | --- | --- | --- | --- | --- |",
        "| popularity | defaults | 0.2000 | 0.1800 to 0.2200 | 0.0 |  |",
        "| spectral | t 0.2 | 0.5000 |  | 3.0 | tuning |",
        "| spectral | defaults | 0.5500 | 0.5000 to 0.6000 | 9.0 | **chosen** |",
        "| hybrid | 1 spectral + 0.3 ease | 0.5400 | 0.4900 to 0.6000 | 12.0 |  |",
        "| slim |  |  |  |  | a\\|b |",
        "",
        "It is the best.",
    ]


def test_report_table_without_the_search():
    assert "tuning" not in report_table(REPORT, tuning=False)


ROOT = Path(__file__).parents[3]


def test_plot_draws_the_report(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    plot = [sys.executable, "-m", "benchmarks.plot_selection"]
    files = [str(tmp_path / "report.json"), str(tmp_path / "plot.svg")]
    subprocess.run([*plot, *files], cwd=ROOT, check=True, timeout=100)
    assert "<svg" in (tmp_path / "plot.svg").read_text()
