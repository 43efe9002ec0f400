"""Data sets of recommendation papers: files read into codes, times made up, lists judged."""

import gzip
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.bootstrap import Interval, intervals

K = 20
DAY = 86_400
SEPARATORS = ("\t", "::", ",")
"""Of a line of user, item[, rating[, time]]; where none of them occurs, blanks part."""

_HEADERS = frozenset({"user", "user_id", "userid", "uid", "user id", "user_id:token"})
_MILLISECONDS = 10**11  # as seconds it would lie in the year 5138
_STARS = (0.5, 5.0)
_NEUTRAL_STARS = 2.5  # as in sources/movielens.py


class BadFile(ValueError):
    """A file cannot be read; the message names it and the line."""


@dataclass(slots=True)
class Ids:
    """Identifiers as the files have them, and their codes 0, 1, 2, ..."""

    names: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        """The code of a name; a new one the next."""
        code = self.codes.setdefault(name, len(self.names))
        if code == len(self.names):
            self.names.append(name)
        return code


@dataclass(frozen=True, slots=True)
class Rows:
    """The interactions of a file, in its order.

    Attributes:
        users: int32 (n,), codes.
        items: int32 (n,), codes.
        ratings: float32 (n,), or None where the file has none.
        times: int64 (n,), seconds since 1970, or None where the file has none.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    ratings: NDArray[np.float32] | None = None
    times: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """How many interactions there are."""
        return len(self.users)


def read(path: Path, layout: str | None, users: Ids, items: Ids) -> Rows:
    """A file, plain or .gz, UTF-8; blank lines are passed over.

    Args:
        layout: "adjacency" (a user, then the user's items), "tsv" (user, item[, rating[, time]]) or
            None: told by the first line, whose tabs, commas or "::" make it tsv.

    Raises:
        BadFile: the file is empty or not there, or a line is in another layout.
    """
    try:
        lines = list(_lines(path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: {error}") from error
    if not lines:
        raise BadFile(f"{path}: there is no line in it")
    parse = _PARSERS[layout or _layout(lines[0][1])]
    return parse(path, lines, users, items)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as text:
        for number, line in enumerate(text, 1):
            if stripped := line.strip():
                yield number, stripped


def _separator(line: str) -> str | None:
    return next((separator for separator in SEPARATORS if separator in line), None)


def _layout(line: str) -> str:
    separator = _separator(line)
    return "tsv" if separator and 2 <= len(line.split(separator)) <= 4 else "adjacency"


def _adjacency(path: Path, lines: Iterable[tuple[int, str]], users: Ids, items: Ids) -> Rows:
    found: tuple[list[int], list[int]] = ([], [])
    for number, line in lines:
        user, *mine = line.split()
        if not mine and ("," in user or "::" in user):
            raise BadFile(f"{path}:{number}: is no user with items parted by blanks: {line[:80]!r}")
        found[0].extend([users.code(user)] * len(mine))
        found[1].extend(map(items.code, mine))
    return Rows(np.array(found[0], np.int32), np.array(found[1], np.int32))


def _tsv(path: Path, lines: Sequence[tuple[int, str]], users: Ids, items: Ids) -> Rows:
    separator = _separator(lines[0][1])
    header = [name.strip().lower() for name in lines[0][1].split(separator)]
    if header[0] in _HEADERS:
        lines = lines[1:]
    width = len(header)
    if not 2 <= width <= 4:
        raise BadFile(f"{path}:1: has {width} columns: user, item[, rating[, time]] are known")
    found: tuple[list[int], list[int], list[float], list[int]] = ([], [], [], [])
    for number, line in lines:
        columns = [column.strip() for column in line.split(separator)]
        try:
            if len(columns) != width or not all(columns[:2]):
                raise ValueError("other columns than the first line")  # noqa: TRY301
            if width > 2:
                found[2].append(_finite(columns[2]))
            if width > 3:
                found[3].append(_seconds(columns[3]))
        except ValueError as error:
            raise BadFile(f"{path}:{number}: {error}: {line[:80]!r}") from None
        found[0].append(users.code(columns[0]))
        found[1].append(items.code(columns[1]))
    return Rows(
        np.array(found[0], np.int32),
        np.array(found[1], np.int32),
        np.array(found[2], np.float32) if width > 2 else None,
        np.array(found[3], np.int64) if width > 3 else None,
    )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _seconds(text: str) -> int:
    seconds = int(text) if text.isdigit() else int(_finite(text))
    if seconds > _MILLISECONDS:
        seconds //= 1000
    if seconds < 0:
        raise ValueError("a time before 1970")
    return seconds


_PARSERS: dict[str, Callable[..., Rows]] = {"adjacency": _adjacency, "tsv": _tsv}


def weights_of(rows: Rows, ratings: str) -> NDArray[np.float32] | None:
    """Interaction weights from ratings; None: each counts what its type does.

    Args:
        ratings: "stars": above the neutral 2.5, as `penchant import movielens` has them; "weights":
            as they stand; "ignore": none; "auto": stars where all lie between 0.5 and 5, else as
            they stand.
    """
    if rows.ratings is None or ratings == "ignore" or not len(rows):
        return None
    low, high = _STARS
    if ratings == "stars" or (
        ratings == "auto" and rows.ratings.min() >= low and rows.ratings.max() <= high
    ):
        return rows.ratings - np.float32(_NEUTRAL_STARS)
    return rows.ratings


@dataclass(frozen=True, slots=True)
class Times:
    """When the interactions of both parts happened, in seconds since 1970.

    Attributes:
        holdout_after: the instant at which validation begins; None without one.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    holdout_after: int | None


def times_of(train: Rows, valid: Rows | None, now: int) -> Times:
    """The files' times, or made-up ones, so that all of train comes before all of valid.

    Made-up times are shuffled: the order of a file's lines says nothing of time, and a split by
    time is then a random one. They span a day, so that no decay by age sets in. Where both files
    have times that overlap, those of train are moved back as a whole.
    """
    n_valid = 0 if valid is None else len(valid)
    valid_times = None if valid is None else valid.times
    if train.times is None or (n_valid and valid_times is None):
        shuffle = np.random.default_rng(0)
        begin = now - 3 * DAY
        spread = [np.arange(n, dtype=np.int64) * DAY // max(n, 1) for n in (len(train), n_valid)]
        first, second = (shuffle.permutation(times) for times in spread)
        return Times(begin + first, begin + DAY + second, begin + DAY if n_valid else None)
    if not n_valid or valid_times is None:
        return Times(train.times, np.empty(0, np.int64), None)
    holdout_after = int(valid_times.min())
    overlap = int(train.times.max()) - holdout_after + 1
    moved = train.times - overlap if overlap > 0 else train.times
    return Times(np.maximum(moved, 0), valid_times, holdout_after)


def sets_by_user(parts: Iterable[Rows], n_users: int) -> list[set[int]]:
    """The items of each user in any of the parts, by the user's code."""
    found: list[set[int]] = [set() for _ in range(n_users)]
    for part in parts:
        for user, item in zip(part.users.tolist(), part.items.tolist(), strict=True):
            found[user].add(item)
    return found


@dataclass(frozen=True, slots=True)
class Judged:
    """Means over the users who have something to be found, with 95 % bootstrap intervals."""

    recall: Interval
    ndcg: Interval
    users: int


def judge(answers: Iterable[tuple[Sequence[int], set[int]]], k: int = K) -> Judged:
    """Recall@k and NDCG@k with binary relevance.

    A list's DCG is parted by that of min(k, number of wanted items) hits at its head
    (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002).

    Args:
        answers: a list, best first, and the items wanted; users who want none do not count.
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gains)])
    recalls: list[float] = []
    ndcgs: list[float] = []
    for items, wanted in answers:
        if not wanted:
            continue
        hits = np.array([item in wanted for item in items[:k]], np.bool_)
        recalls.append(hits.sum() / len(wanted))
        ndcgs.append(gains[: len(hits)][hits].sum() / ideal[min(k, len(wanted))])
    if not recalls:
        raise BadFile("no user of the test file has an item that is not in training already")
    found = intervals({"recall": np.asarray(recalls), "ndcg": np.asarray(ndcgs)})
    return Judged(found["recall"], found["ndcg"], len(recalls))
