"""Files of data sets, made-up times, and the measures by hand."""

import gzip
from math import log2
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality_data import (
    DAY,
    BadFile,
    Ids,
    Rows,
    judge,
    read,
    sets_by_user,
    times_of,
    weights_of,
)

_NOW = 1_800_000_000


def _read(path: Path, text: str, layout: str | None = None) -> tuple[list[tuple[str, str]], Rows]:
    path.write_text(text, encoding="utf-8")
    users, items = Ids(), Ids()
    rows = read(path, layout, users, items)
    names = [
        (users.names[user], items.names[item])
        for user, item in zip(rows.users, rows.items, strict=True)
    ]
    return names, rows


def _rows(n: int, times: list[int] | None = None, ratings: list[float] | None = None) -> Rows:
    return Rows(
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int32),
        None if ratings is None else np.array(ratings, np.float32),
        None if times is None else np.array(times, np.int64),
    )


def test_adjacency_gives_each_users_items(tmp_path: Path) -> None:
    names, rows = _read(tmp_path / "f.txt", "u1 a b\n\nu2\tb\nalone\nÜ ç\n")
    assert names == [("u1", "a"), ("u1", "b"), ("u2", "b"), ("Ü", "ç")]
    assert rows.ratings is None
    assert rows.times is None


def test_compressed_file_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "f.txt.gz"
    path.write_bytes(gzip.compress(b"0 1 2\n1 2\n"))
    users, items = Ids(), Ids()
    rows = read(path, None, users, items)
    assert (users.names, items.names) == (["0", "1"], ["1", "2"])
    assert rows.items.tolist() == [0, 1, 1]


def test_codes_go_on_over_files(tmp_path: Path) -> None:
    users, items = Ids(), Ids()
    for name, text in (("a", "x 1 2\n"), ("b", "y 2 3\nx 1\n")):
        (tmp_path / name).write_text(text)
    read(tmp_path / "a", None, users, items)
    rows = read(tmp_path / "b", None, users, items)
    assert rows.users.tolist() == [1, 1, 0]
    assert rows.items.tolist() == [1, 2, 0]


@pytest.mark.parametrize("separator", ["\t", ",", "::", " "])
@pytest.mark.parametrize("header", [False, True])
def test_columns_with_each_separator(tmp_path: Path, separator: str, header: bool) -> None:
    lines = [["u1", "a", "4.5", "978300760"], ["u2", "b", "1", "978300761.0"]]
    if header:
        lines.insert(0, ["user_id", "item_id", "rating", "timestamp"])
    text = "".join(separator.join(columns) + "\n" for columns in lines)
    names, rows = _read(tmp_path / "f", text, "tsv")
    assert names == [("u1", "a"), ("u2", "b")]
    assert rows.ratings is not None
    assert rows.times is not None
    assert rows.ratings.tolist() == [4.5, 1.0]
    assert rows.times.tolist() == [978300760, 978300761]


@pytest.mark.parametrize("text", ["u1\ta\nu2\tb\n", "u1,a,3\n", "u1::a::3::9\n"])
def test_columns_are_told_by_the_first_line(tmp_path: Path, text: str) -> None:
    names, _ = _read(tmp_path / "f", text)
    assert names[0] == ("u1", "a")


def test_columns_may_end_early_for_all(tmp_path: Path) -> None:
    _, rows = _read(tmp_path / "f", "u1\ta\t3\nu1\tb\t4\n")
    assert rows.ratings is not None
    assert rows.times is None


def test_milliseconds_become_seconds(tmp_path: Path) -> None:
    _, rows = _read(tmp_path / "f", "u1\ta\t3\t1700000000123\n")
    assert rows.times is not None
    assert rows.times.tolist() == [1_700_000_000]


@pytest.mark.parametrize(
    ("text", "layout", "place"),
    [
        ("u1\ta\nu2\n", None, "f:2"),
        ("u1\ta\n\nu2\tb\t3\n", None, "f:3"),
        ("u1\ta\tgood\n", None, "f:1"),
        ("u1\ta\tnan\n", None, "f:1"),
        ("u1\ta\t3\t-5\n", None, "f:1"),
        ("u1\ta\t3\tnoon\n", None, "f:1"),
        ("u1\ta\nu2\t \n", None, "f:2"),
        ("one\n", "tsv", "f:1"),
        ("1,2,3,4,5\n", None, "f:1"),
        ("u1 a\n1::2\n", "adjacency", "f:2"),
        ("", None, "f: "),
        ("\n\n", None, "f: "),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, text: str, layout: str | None, place: str) -> None:
    with pytest.raises(BadFile, match=f"{place}"):
        _read(tmp_path / "f", text, layout)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("u1 caf\xe9\n".encode("latin-1"))
    (tmp_path / "plain.gz").write_bytes(b"u1 a\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"u1 a\n" * 1000)[:-12])
    for name in ("none", "latin", "plain.gz", "cut.gz"):
        with pytest.raises(BadFile, match=name):
            read(tmp_path / name, None, Ids(), Ids())


@pytest.mark.parametrize(
    ("ratings", "rule", "expected"),
    [
        ([1.0, 5.0], "auto", [-1.5, 2.5]),
        ([1.0, 17.0], "auto", [1.0, 17.0]),
        ([0.0, 1.0], "auto", [0.0, 1.0]),
        ([1.0, 5.0], "weights", [1.0, 5.0]),
        ([1.0, 17.0], "stars", [-1.5, 14.5]),
    ],
)
def test_weights_follow_the_rule(ratings: list[float], rule: str, expected: list[float]) -> None:
    weights = weights_of(_rows(len(ratings), ratings=ratings), rule)
    assert weights is not None
    assert weights.tolist() == expected


def test_weights_are_the_types_without_ratings() -> None:
    assert weights_of(_rows(2), "stars") is None
    assert weights_of(_rows(2, ratings=[1, 2]), "ignore") is None


def test_made_up_times_put_validation_last() -> None:
    times = times_of(_rows(1000), _rows(100), _NOW)
    assert times.holdout_after is not None
    assert times.train.max() < times.holdout_after <= times.valid.min()
    assert times.valid.max() < _NOW
    assert times.train.max() - times.train.min() < DAY


def test_made_up_times_do_not_follow_the_file() -> None:
    times = times_of(_rows(1000), None, _NOW)
    assert times.holdout_after is None
    assert len(times.valid) == 0
    assert abs(np.corrcoef(times.train, np.arange(1000))[0, 1]) < 0.1
    again = times_of(_rows(1000), None, _NOW)
    assert times.train.tolist() == again.train.tolist()


def test_files_times_are_kept() -> None:
    times = times_of(_rows(2, [10, 30]), _rows(1, [31]), _NOW)
    assert (times.train.tolist(), times.valid.tolist()) == ([10, 30], [31])
    assert times.holdout_after == 31


def test_overlapping_times_move_train_back() -> None:
    times = times_of(_rows(2, [100, 300]), _rows(2, [250, 400]), _NOW)
    assert times.train.tolist() == [49, 249]
    assert times.holdout_after == 250


def test_sets_join_parts() -> None:
    first = Rows(np.array([0, 0, 1], np.int32), np.array([1, 2, 1], np.int32))
    second = Rows(np.array([0, 0], np.int32), np.array([2, 3], np.int32))
    assert sets_by_user([first, second], 3) == [{1, 2, 3}, {1}, set()]


def test_judge_by_hand() -> None:
    answers = [
        ([7, 1, 8, 2], {1, 2, 3}),  # hits at places 2 and 4 of the list
        ([5], {5}),
        ([4], set()),  # wants nothing: does not count
        ([], {9}),
    ]
    judged = judge(answers, k=4)
    first = (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4))
    assert judged.users == 3
    assert judged.recall.mean == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert judged.ndcg.mean == pytest.approx((first + 1 + 0) / 3)


def test_judge_looks_at_k_only() -> None:
    judged = judge([(list(range(30)), set(range(19, 60)))], k=20)
    assert judged.recall.mean == pytest.approx(1 / 41)
    assert judged.ndcg.mean == pytest.approx(
        (1 / log2(21)) / sum(1 / log2(p + 2) for p in range(20))
    )


def test_judge_needs_somebody() -> None:
    with pytest.raises(BadFile, match="no user"):
        judge([([1], set())])
