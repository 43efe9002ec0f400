"""What a row of the speed table is: what it measures, its goals, and how large in which form."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import filling
from benchmarks.console import Steps
from benchmarks.contest import Figures, Plan
from benchmarks.datasets import ML100K_EVENTS
from benchmarks.world import World

TENANT = "bench"
"""Holds the generator's catalogue."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio should be; `at_most`: no more than that, else no less."""

    value: float
    stretch: float
    at_most: bool = False

    def met(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio <= self.value if self.at_most else ratio >= self.value

    def __str__(self) -> str:
        """As the table says it."""
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a row beside its reference's.

    Attributes:
        measure: what is compared, with its unit.
        goal: of ours / reference; None: only told.
    """

    measure: str
    ours: float
    reference: float
    goal: Goal | None = None

    @property
    def ratio(self) -> float:
        """Ours of the reference's."""
        return self.ours / self.reference if self.reference else math.nan

    @property
    def met(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        return None if self.goal is None else self.goal.met(self.ratio)


@dataclass(frozen=True, slots=True)
class Result:
    """What a row measured.

    Attributes:
        sides: all figures, by whose they are.
        note: why there is nothing, or what else there is to say.
    """

    lines: Sequence[Line] = ()
    sides: Mapping[str, Figures] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """How large everything is.

    Attributes:
        entities, dimension, users: of the catalogue.
        sizes: of the catalogues that are compared; none: not compared.
        tenants: of which the many are compared with the first few; 0: not compared.
        batches: of 1,000 rows, a side and round.
        events: of the data set that Gorse was measured with.
    """

    name: str
    entities: int
    dimension: int
    users: int
    plan: Plan
    sizes: tuple[int, ...] = ()
    tenants: int = 0
    batches: int = 20
    events: int = ML100K_EVENTS


FORMS = {
    form.name: form
    for form in (
        Form("ordinary", 100_000, 512, 2_000, Plan(4.0, 5)),
        Form(
            "short", 1_500, 32, 64, Plan(0.5, 1),
            sizes=(1_200, 1_500), tenants=12, batches=3, events=4_000,
        ),
        Form(
            "long", 100_000, 512, 2_000, Plan(4.0, 5),
            sizes=(10_000, 100_000, 1_000_000), tenants=2_000,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bench:
    """What a row works with.

    Attributes:
        gowalla, ml100k: folders of the data sets, where they are at hand.
    """

    world: World
    form: Form
    gowalla: Path | None = None
    ml100k: Path | None = None

    @property
    def plan(self) -> Plan:
        """Seconds and rounds."""
        return self.form.plan

    @property
    def steps(self) -> Steps:
        """Told what is done."""
        return self.world.steps

    async def catalogue(self) -> list[str]:
        """Fills TENANT, if that was not done; its users."""
        return await filling.catalogue(
            self.world, TENANT, self.form.entities,
            dimension=self.form.dimension, users=self.form.users,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        name: by which `python -m benchmarks.speed --row` finds it.
        work: what ours does.
        reference: beside what.
        measure: does it.
    """

    name: str
    work: str
    reference: str
    measure: Callable[[Bench], Awaitable[Result]]


def compared(
    ours: Figures, reference: Figures, per_second: Goal, p99: Goal | None = None
) -> tuple[Line, ...]:
    """Lines of two sides' calls: a second, of the slowest hundredth, and what each costs."""
    return (
        Line("calls/s", ours.per_second, reference.per_second, per_second),
        Line("p99 ms", ours.p99_ms, reference.p99_ms, p99),
        Line("CPU ms a call", ours.cpu_ms, reference.cpu_ms),
    )


def result_json(row: Row, result: Result) -> dict[str, Any]:
    """A row's result as JSON."""
    return {
        "work": row.work,
        "reference": row.reference,
        "note": result.note,
        "lines": [
            {
                "measure": line.measure,
                "ours": _number(line.ours),
                "reference": _number(line.reference),
                "ratio": _number(line.ratio),
                "goal": None if line.goal is None else str(line.goal),
                "stretch": None if line.goal is None else line.goal.stretch,
                "met": line.met,
            }
            for line in result.lines
        ],
        "sides": {name: figures.as_json() for name, figures in result.sides.items()},
    }


def _number(value: float) -> float | None:
    """JSON has no word for what was not measured."""
    return None if math.isnan(value) else value
