"""What tenant A is told does not depend on tenant B, byte for byte, whatever B has and does."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from tests.conftest import _fresh_database
from tests.isolation.actors import Actor, Step, Work
from tests.isolation.cases import BY_LABEL, covered
from tests.isolation.masks import MASKS, SOMETIMES, SORTED
from tests.isolation.recording import (
    Caller,
    Record,
    Told,
    all_but_the_end,
    every_method,
    everything,
    nothing,
    operator_key,
    recorded,
    settings_of,
)
from tests.rpc.conftest import running

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("isolation_differential"),
]


@dataclass(frozen=True, slots=True)
class World:
    """What B has and does while A is recorded."""

    does: Callable[[Step | Work], bool]
    prefix: str = ""
    seed: int = 1
    at_once: bool = False


WORLDS = {
    "empty": World(nothing),
    "full": World(everything, prefix="x-", seed=2, at_once=True),
    "namesake": World(everything, seed=2, at_once=True),
    "twin": World(all_but_the_end),
}
"""B empty; full; full with A's own names, for other things; and full with all that A has.

In the second and third it is busy at the same time, in the last just before A.
"""

LEFT_TO_B = ("filtered entities", "an entity's interactions", "index of its own")
"""What shows that B has all its things after A's erasure."""

REFUSED = ["a deleted entity", "ingest of an erased user", "DeleteOperation"]
"""The steps that end with an error, in every run."""


async def run(world: str, database_url: str, redis_url: str, data_dir: Path) -> Record:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    chosen = WORLDS[world]
    a, b = Actor("acme"), Actor("bolt", chosen.prefix, chosen.seed)
    async with running(settings_of(database_url, redis_url, data_dir)) as service:
        caller = Caller(service, await operator_key(service))
        record = await recorded(caller, a, b, chosen.does, at_once=chosen.at_once)
        if world == "twin":
            await check_left(caller, b)
        return record


async def check_left(caller: Caller, b: Actor) -> None:
    """B is told what it was told before."""
    before, after = Record(), Record()
    for label in LEFT_TO_B:
        before.add(label, Told((b.answers[label],)))
        after.add(label, await caller.step(BY_LABEL[label], b))
    assert differences(before, after) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def records(
    postgres_server: str,
    template_database: str,
    redis_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Record]:
    """The record of each world, all of one day."""
    while True:
        day = datetime.now(UTC).date()
        found = {}
        for world in WORLDS:
            async for url in _fresh_database(postgres_server, template_database):
                found[world] = await run(world, url, redis_server, tmp_path_factory.mktemp("data"))
        if datetime.now(UTC).date() == day:
            return found


def differences(one: Record, other: Record) -> list[str]:
    """The steps whose bytes differ, and the lines that do."""
    assert [e.label for e in one.entries] == [e.label for e in other.entries]
    return [
        "\n".join([left.label, *unified_diff(left.text.split("\n"), right.text.split("\n"), n=1)])
        for left, right in zip(one.entries, other.entries, strict=True)
        if left.told != right.told
    ]


async def test_every_method_has_a_case() -> None:
    assert covered() == every_method()


@pytest.mark.parametrize("world", [world for world in WORLDS if world != "empty"])
async def test_answers_do_not_depend_on_another_tenant(
    records: dict[str, Record], world: str
) -> None:
    found = differences(records["empty"], records[world])
    assert not found, "\n\n".join(found)


async def test_steps_end_as_they_should(records: dict[str, Record]) -> None:
    """A record of errors would be the same in all worlds, too."""
    assert {world: sorted(r.errors) for world, r in records.items()} == dict.fromkeys(
        WORLDS, sorted(REFUSED)
    )


async def test_every_mask_is_needed(records: dict[str, Record]) -> None:
    used = set.union(*(record.masks.used for record in records.values()))
    assert used | SOMETIMES == MASKS.keys() | SORTED.keys()
