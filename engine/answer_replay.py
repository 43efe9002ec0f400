"""Reading past answers: what was kept, the same answer made anew, and why an entity is in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from engine.answer_log import LoggedAnswer, decode
from engine.answers import Item
from engine.candidates import Candidates
from engine.ranking import rank_as_asked
from engine.recommender import MAX_LIST
from engine.tenants import TenantDirectory
from storage.answer_log import AnswerLogStore
from storage.entities import EntityKey
from storage.exceptions import InvalidArgument, NotFound
from storage.tenants import Tenant

_MAX_DIFFERENCES = 20


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A past answer and until when it is kept."""

    logged: LoggedAnswer
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer made anew; `differences` say what is not as it was answered."""

    items: tuple[Item, ...]
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entity.

    Attributes:
        sentence: for a person.
        position: in the ranked list, from 0; None when it was not ranked.
        item: with source scores; None when it was no candidate.
    """

    word: Literal["recommended", "ranked_lower", "below_min_score", "no_candidate"]
    sentence: str
    position: int | None = None
    item: Item | None = None


class AnswerArchive:
    """The past answers of a tenant, by recommendation id."""

    def __init__(self, tenants: TenantDirectory, store: AnswerLogStore) -> None:
        self._tenants = tenants
        self._store = store

    async def get(self, tenant: Tenant, recommendation_id: str) -> KeptAnswer:
        """A past answer.

        Raises:
            InvalidArgument: the id is empty.
            NotFound: RECOMMENDATION_NOT_FOUND, none of that id is kept.
        """
        if not recommendation_id:
            raise InvalidArgument.field("recommendation_id", "is required")
        row = await self._tenants.run(tenant, lambda t: self._store.get(t, recommendation_id))
        try:
            if row is not None:
                return KeptAnswer(decode(row.payload), row.expires_at)
        except ValueError as error:
            raise _not_found() from error  # of a release that kept answers in another way
        raise _not_found()


def _not_found() -> NotFound:
    return NotFound(
        "No answer of that recommendation_id is kept.", reason="RECOMMENDATION_NOT_FOUND"
    )


def replay(logged: LoggedAnswer) -> Replay:
    """Ranks what was kept of an answer once more."""
    answered = logged.answer.items
    items = tuple(_ranked(logged)[: max(logged.query.page_size, MAX_LIST)])
    return Replay(items, tuple(_differences(answered, items)))


def scored(logged: LoggedAnswer) -> dict[int, Item]:
    """All candidates by number with their source scores, those below the least score too."""
    query = logged.query._replace(explain=True, min_score=None, diversity=0.0)
    return {
        item.entity_no: item
        for item in rank_as_asked(
            Candidates.of(logged.candidates), logged.inputs, logged.weights, query, logged.found()
        )
    }


def boosts(logged: LoggedAnswer) -> list[float]:
    """What the boosts multiply each candidate's score by, in the order of the candidates."""
    factors = [boost.factor for boost in logged.query.boosts]
    return [
        math.prod(f for f, matches in zip(factors, c.boosts, strict=True) if matches)
        for c in logged.candidates
    ]


def history(logged: LoggedAnswer) -> list[EntityKey]:
    """The entities that the sources started from, strongest first."""
    anchors = sorted(logged.inputs.anchors, key=lambda anchor: -anchor.weight)
    return [(anchor.entity_type, anchor.entity_id) for anchor in anchors]


def explain(logged: LoggedAnswer, key: EntityKey) -> Outcome:
    """Why an entity stands in a past answer, or does not."""
    number = next(
        (c.entity_no for c in logged.candidates if (c.entity_type, c.entity_id) == key), None
    )
    if number is None:
        return Outcome("no_candidate", _why_no_candidate(logged, key))
    item = scored(logged)[number]
    order = [ranked.entity_no for ranked in _ranked(logged)]
    if number not in order:
        return Outcome(
            "below_min_score",
            f"Its score {item.score:.4g} is below {logged.query.min_score:.4g}, the least that"
            " the request allows.",
            item=item,
        )
    place, size = order.index(number), logged.query.page_size
    first = item.reasons[0]
    if place < size:
        sentence = (
            f"It was number {place + 1} of {len(order)} that were ranked;"
            f" {first.source} gave {first.share:.0%} of its score."
        )
        return Outcome("recommended", sentence, place, item)
    sentence = (
        f"It was number {place + 1} of {len(order)} that were ranked, and the first page held"
        f" {size}: its score is {item.score:.4g}, that of the page's last"
        f" {logged.answer.items[size - 1].score:.4g}."
    )
    return Outcome("ranked_lower", sentence, place, item)


def _ranked(logged: LoggedAnswer) -> list[Item]:
    return rank_as_asked(
        Candidates.of(logged.candidates),
        logged.inputs,
        logged.weights,
        logged.query,
        logged.found(),
    )


def _why_no_candidate(logged: LoggedAnswer, key: EntityKey) -> str:
    query, kind = logged.query, key[0]
    if key in query.exclude:
        return "The request excludes it."
    if key in query.context:
        return "It is of the request's context, and such entities never recommend themselves."
    if query.entity_type and kind != query.entity_type:
        return f"The request asks for the type {query.entity_type} only."
    if not query.entity_type and kind == "user":
        return "Entities of the type user are recommended only when asked for."
    if logged.seen_excluded and any(
        (a.entity_type, a.entity_id) == key for a in logged.inputs.anchors if not a.context
    ):
        return "The user had interacted with it, and what was seen was kept out."
    counts = logged.answer.candidate_counts
    asked = ", ".join(sorted(counts)) or "no source"
    hints = ["unknown", "hidden", "outside its window"]
    hints += ["outside the filter"] if query.filter else []
    hints += ["seen long ago"] if logged.seen_excluded else []
    return (
        f"None of the sources that answered ({asked}) had it among its best: it was"
        f" {', '.join(hints)}, or suited less than those offered."
    )


def _differences(before: Sequence[Item], after: Sequence[Item]) -> list[str]:
    found = []
    if len(before) != len(after):
        found.append(f"{len(before)} items were answered, {len(after)} come out")
    for place, (old, new) in enumerate(zip(before, after, strict=False)):
        if old == new:
            continue
        name = f"place {place}: {old.entity_type}/{old.entity_id}"
        if old.entity_no != new.entity_no:
            found.append(f"{name} was answered, {new.entity_type}/{new.entity_id} comes out")
        elif old.score != new.score:
            found.append(f"{name} had the score {old.score!r}, now {new.score!r}")
        elif old.reasons != new.reasons:
            found.append(f"{name} has other reasons")
        else:
            found.append(f"{name} has other source scores")
    if len(found) > _MAX_DIFFERENCES:
        found[_MAX_DIFFERENCES:] = [f"and {len(found) - _MAX_DIFFERENCES} more"]
    return found
