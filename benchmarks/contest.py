"""Two sides measured in turn, so that what else the machine does falls on both."""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.h2load import Calls, Work, drive, of_round
from benchmarks.processes import cpu_seconds

_WARM_UP_SECS = 3.0
_LONGEST_SECS = 20.0


class Failed(RuntimeError):
    """Calls failed that should not have."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one side: medians over the rounds.

    Attributes:
        per_second: calls, or whatever the row counts.
        cpu_ms: of the server's process, a call.
        backend_cpu_ms: of PostgreSQL and Redis together, a call.
    """

    per_second: float
    p50_ms: float = float("nan")
    p99_ms: float = float("nan")
    p999_ms: float = float("nan")
    cpu_ms: float = float("nan")
    backend_cpu_ms: float = float("nan")
    calls: int = 0

    def as_json(self) -> dict[str, Any]:
        """All of them; what was not measured is absent."""
        return {name: value for name, value in asdict(self).items() if value == value}  # noqa: PLR0124


Codes = Callable[[], Awaitable[dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Side:
    """One side: the work, who does it, and how its outcomes are known.

    Attributes:
        bodies: requests of which each round takes as many others as the work has; none: the work's.
        servers, backends: processes whose processor time is told.
        codes: counts of ended calls by status, if the server counts; no new ones but OK may come.
    """

    work: Work
    bodies: Sequence[bytes] = ()
    servers: Sequence[int] = ()
    backends: Callable[[], Sequence[int]] = tuple
    codes: Codes | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How long is measured: the seconds of a round, and the rounds of each side."""

    seconds: float = 4.0
    rounds: int = 5


async def measure(side: Side, seconds: float, number: int) -> Figures:
    """One round of one side.

    Raises:
        Failed: a call did.
    """
    work = of_round(side.work, side.bodies, number) if side.bodies else side.work
    before = await side.codes() if side.codes else {}
    cpu, backend_cpu = cpu_seconds(side.servers), cpu_seconds(side.backends())
    calls = await drive(work, seconds)
    while not len(calls.took_ms) and not calls.failed and seconds < _LONGEST_SECS:
        # The machine is so busy that no call ended in the time.
        seconds *= 4
        calls = await drive(work, seconds)
    cpu, backend_cpu = cpu_seconds(side.servers) - cpu, cpu_seconds(side.backends()) - backend_cpu
    _check(calls, before, await side.codes() if side.codes else {}, work)
    each = 1000 / len(calls.took_ms)
    return Figures(
        calls.per_second,
        calls.at(0.5),
        calls.at(0.99),
        calls.at(0.999),
        cpu * each,
        backend_cpu * each,
        len(calls.took_ms),
    )


def _check(calls: Calls, before: dict[str, float], after: dict[str, float], work: Work) -> None:
    if calls.failed or not len(calls.took_ms):
        raise Failed(f"{work.method}: {calls.failed} of {len(calls.took_ms)} calls failed")
    bad = {
        code: int(count - before.get(code, 0.0))
        for code, count in after.items()
        # The generator leaves when its time is over, with calls under way.
        if code not in {"OK", "CANCELLED"} and count > before.get(code, 0.0)
    }
    if bad:
        raise Failed(f"{work.method}: calls ended with {bad}")


async def contest(sides: Sequence[Side], plan: Plan) -> list[Figures]:
    """Each side's figures, over rounds in which all have their turn, after each has warmed up.

    Raises:
        Failed: a call did.
    """
    for number, side in enumerate(sides):
        await measure(side, min(_WARM_UP_SECS, plan.seconds), number)
    rounds: list[list[Figures]] = [[] for _ in sides]
    for number in range(plan.rounds):
        for made, side in zip(rounds, sides, strict=True):
            made.append(await measure(side, plan.seconds, number))
    return [middle(made) for made in rounds]


def middle(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds; of the calls their sum."""

    def of(name: str) -> float:
        return float(statistics.median(getattr(figures, name) for figures in rounds))

    names = ("per_second", "p50_ms", "p99_ms", "p999_ms", "cpu_ms", "backend_cpu_ms")
    return Figures(**{name: of(name) for name in names}, calls=sum(f.calls for f in rounds))
