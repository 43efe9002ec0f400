"""The history of a run, and a check of it against what callers were promised.

The model: a user is a register whose value is the set of entities that the user likes. A like adds
one; a read tells the whole set, for the catalogue is small and the list holds all of it that the
user has not seen. Nobody else likes for the user, and nothing is taken away. Operations overlap, so
the check goes by real-time order (Herlihy and Wing, "Linearizability", TOPLAS 1990), over what was
recorded while faults were injected, as Jepsen does: a like takes effect somewhere between its begin
and its end, one whose call failed perhaps later or never; a read sees what had taken effect at some
moment between its own begin and end.

Sets that only grow need no search for an order. A history is refused for

- "stale": a read with a token lacks a like that the token covers: the one whose acknowledgement it
  is of, or one acknowledged before the read began with an older token;
- "fresh": a read lacks a like of before the state that the answer says it was computed from;
- "late": a read lacks a like that was acknowledged longer before it began than is allowed;
- "back": a read lacks what an earlier read of the same caller, which had ended, knew of;
- "lost": a read at the end, which brings a token, lacks an acknowledged like, or there is none;
- "unmade": a read tells of a like that nobody had begun to make.
"""

import gzip
import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

OK = "OK"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call.

    Attributes:
        kind: "last" is a read after everything else.
        begin, end: seconds on one clock for all; a read's begin is when it was sent.
        caller: who called.
        connection: over which it went.
        user: whose list.
        status: gRPC's.
        entity: what a like likes.
        token: the transaction of a like's acknowledgement, or the one that a read's answer must
            know of; 0: none.
        seen: what a read's answer lacks of the catalogue.
        fresh: the answer knows all transactions below.
    """

    kind: Literal["like", "read", "last"]
    begin: float
    end: float
    caller: str
    connection: int
    user: str
    status: str = OK
    entity: str = ""
    token: int = 0
    seen: tuple[str, ...] = ()
    fresh: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken.

    Attributes:
        rule: one of those above.
        operations: places in the history, the read first (none for a user never read at the end).
    """

    rule: str
    user: str
    message: str
    operations: tuple[int, ...]


_DEFAULTS = {f.name: f.default for f in fields(Operation)}


def as_line(operation: Operation) -> str:
    """An operation as a line of JSON, without what is as usual."""
    told: dict[str, Any] = {k: v for k, v in asdict(operation).items() if v != _DEFAULTS[k]}
    told["begin"], told["end"] = round(operation.begin, 6), round(operation.end, 6)
    return json.dumps(told, separators=(",", ":"))


def write_history(path: Path, history: Iterable[Operation]) -> None:
    """Writes one line an operation, compressed where the name ends in .gz."""
    lines = "".join(f"{as_line(operation)}\n" for operation in history).encode()
    # Without a time in it, so that the same history makes the same file.
    path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)


def read_history(path: Path) -> list[Operation]:
    """Reads what `write_history` wrote.

    Raises:
        ValueError: a line is none.
    """
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [_parsed(json.loads(line)) for line in text.splitlines()]


def _parsed(told: Any) -> Operation:
    if not isinstance(told, dict) or told.get("kind") not in {"like", "read", "last"}:
        raise ValueError(f"no operation: {told!r}")
    return Operation(**{**told, "seen": tuple(told.get("seen", ()))})


def check(history: Sequence[Operation], *, longest_secs: float = 0.1) -> list[Violation]:
    """What of the promises was broken, by user and then by time.

    Args:
        longest_secs: after an acknowledgement an answer may lack the like for so long, unless a
            token asks for it.
    """
    found: list[Violation] = []
    for user, places in _by_user(history).items():
        found += _check_user(user, [(place, history[place]) for place in places], longest_secs)
    return found


@dataclass(frozen=True, slots=True)
class Staleness:
    """How old answers without a token were.

    Attributes:
        reads: such reads that began after an acknowledgement of their user.
        stale: those of them that lacked an acknowledged like.
        likes: acknowledged likes with such a read after them.
        p50_ms, p99_ms, p999_ms, longest_ms: over those likes, from the acknowledgement to the begin
            of the last read that lacked it; 0 where none did.
        back_across_callers: reads, with a token or not, that lacked what another caller's read,
            which had ended, knew of. No promise: a like may show before it is acknowledged.
    """

    reads: int
    stale: int
    likes: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    longest_ms: float
    back_across_callers: int


def staleness(history: Sequence[Operation]) -> Staleness:
    """Measures what no token asked for."""
    reads = stale = back = 0
    waits: list[float] = []
    for places in _by_user(history).values():
        operations = [history[place] for place in places]
        likes = [o for o in operations if o.kind == "like" and o.status == OK]
        answered = [o for o in operations if o.kind != "like" and o.status == OK]
        free = [o for o in answered if not o.token]
        first = min((like.end for like in likes), default=float("inf"))
        later = [read for read in free if read.begin >= first]
        reads += len(later)
        stale += sum(
            any(k.end <= read.begin and k.entity not in read.seen for k in likes) for read in later
        )
        for like in likes:
            after = [read for read in later if read.begin >= like.end]
            if after:
                lacking = (r.begin - like.end for r in after if like.entity not in r.seen)
                waits.append(max(lacking, default=0.0) * 1000)
        back += sum(bool(lost) for _, _, lost in _gone_back(list(enumerate(answered))))
    p50, p99, p999, longest = np.quantile(
        waits or [0.0], [0.5, 0.99, 0.999, 1.0], method="higher"
    ).tolist()
    return Staleness(reads, stale, len(waits), p50, p99, p999, longest, back)


def _by_user(history: Sequence[Operation]) -> dict[str, list[int]]:
    users: dict[str, list[int]] = defaultdict(list)
    for place in sorted(range(len(history)), key=lambda place: history[place].begin):
        users[history[place].user].append(place)
    return users


_Placed = tuple[int, Operation]


def _check_user(user: str, operations: list[_Placed], longest_secs: float) -> list[Violation]:
    likes = [(p, o) for p, o in operations if o.kind == "like"]
    acked = [(p, o) for p, o in likes if o.status == OK]
    reads = [(p, o) for p, o in operations if o.kind != "like" and o.status == OK]
    found: list[Violation] = []

    def refuse(rule: str, message: str, *places: int) -> None:
        found.append(Violation(rule, user, message, places))

    for place, read in reads:
        seen = set(read.seen)
        for at, like in acked:
            if like.entity not in seen and (broken := _lacks(read, like, longest_secs)):
                refuse(broken[0], f"{like.entity} is in the list {broken[1]}", place, at)
        begun = {like.entity for _, like in likes if like.begin <= read.end}
        for entity in sorted(seen - begun):
            refuse("unmade", f"{entity} is not in the list, and nobody had liked it", place)
    callers: dict[str, list[_Placed]] = defaultdict(list)
    for place, read in reads:
        callers[read.caller].append((place, read))
    for caller, own in callers.items():
        for place, before, lost in _gone_back(own):
            if lost:
                names = ", ".join(sorted(lost))
                refuse("back", f"{caller} has {names} in the list again", place, before)
    if acked and not any(o.kind == "last" and o.token for _, o in reads):
        refuse("lost", "no read with a token at the end")
    return found


def _lacks(read: Operation, like: Operation, longest_secs: float) -> tuple[str, str] | None:
    """The rule that a read breaks which lacks an acknowledged like, and how."""
    waited = read.begin - like.end
    if read.kind == "last":
        return "lost", f"at the end, {waited:.3f} s after the acknowledgement"
    if read.token and (like.token == read.token or (like.token < read.token and waited >= 0)):
        return "stale", f"although the token is of {read.token} and the like of {like.token}"
    if read.fresh > like.token:
        return "fresh", f"although the answer knows all before {read.fresh}, it of {like.token}"
    if waited > longest_secs:
        return "late", f"{waited * 1000:.1f} ms after the acknowledgement"
    return None


def _gone_back(reads: list[_Placed]) -> Iterable[tuple[int, int, set[str]]]:
    """Each read's place, that of an earlier one which knew more, and what it knew more.

    Args:
        reads: by begin.
    """
    by_end = sorted(reads, key=lambda placed: placed[1].end)
    ends = [read.end for _, read in by_end]
    known: dict[str, int] = {}
    taken = 0
    for place, read in reads:
        ended = bisect_right(ends, read.begin)
        for before, earlier in by_end[taken:ended]:
            for entity in earlier.seen:
                known.setdefault(entity, before)
        taken = max(taken, ended)
        lost = known.keys() - set(read.seen)
        yield place, known[min(lost)] if lost else place, lost
