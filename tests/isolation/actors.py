"""Who carries out the cases: a tenant with names, vectors and a memory of its answers."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from penchant.v1.common_pb2 import EntityRef

DIMENSION = 8
OPERATIONS = "google.longrunning.Operations"


@dataclass
class Actor:
    """A tenant that carries out cases.

    Attributes:
        prefix: begins all names, so that two actors share names or share none.
        seed: of vectors, attributes and likes; actors of one seed have the same.
        day: midnight (UTC) before which everything happened, longer ago than trends look back.
        answers: what came back, by the step's label: a message, or a list of a stream's.
    """

    tenant: str
    prefix: str = ""
    seed: int = 1
    day: datetime = field(
        default_factory=lambda: datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    )
    answers: dict[str, Any] = field(default_factory=dict)

    def name(self, text: str) -> str:
        """A name of this actor's."""
        return self.prefix + text

    def book(self, number: int) -> EntityRef:
        """The name of a book."""
        return EntityRef(entity_type="book", entity_id=self.name(f"b{number:02}"))

    def user(self, number: int) -> str:
        """The name of a user."""
        return self.name(f"u{number}")

    def vector(self, number: int) -> list[float]:
        """A book's vector, with signs that differ from book to book."""
        chance = random.Random(f"{self.seed}/{number}")
        return [chance.uniform(-1, 1) for _ in range(DIMENSION)]

    def at(self, hours: float) -> datetime:
        """So many hours after the first thing that happened."""
        return self.day - timedelta(days=40) + timedelta(hours=hours)

    @property
    def secret(self) -> str:
        """The text of the actor's key."""
        return str(self.answers["CreateApiKey"].secret)


Requests = Message | Iterable[Message]


@dataclass(frozen=True, slots=True)
class Step:
    """One call.

    Attributes:
        method: its full name, such as penchant.v1.EntityService.GetEntity.
        make: its request, or the requests of a stream.
        label: what its answer is kept under.
        operator: the operator calls, for the tenant; as for all methods that are the operator's.
    """

    method: str
    make: Callable[[Actor], Requests]
    label: str
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What happens between calls: the background jobs, or the trainings that wait."""

    what: str


def full_name(method: str) -> str:
    """The full name of a method, which may leave out penchant.v1."""
    return method if method.startswith("google.") else f"penchant.v1.{method}"


def step(
    method: str, make: Callable[[Actor], Requests], label: str = "", *, operator: bool = False
) -> Step:
    """A step of `Service.Method`; its label is the method's name unless given."""
    return Step(full_name(method), make, label or method.rpartition(".")[2], operator)
