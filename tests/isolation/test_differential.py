"""What tenant A is told does not depend on tenant B, byte for byte, whatever B has and does."""

from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from tests.conftest import _fresh_database
from tests.isolation.actors import Actor
from tests.isolation.cases import covered
from tests.isolation.masks import MASKS, SORTED
from tests.isolation.recording import (
    Caller,
    Record,
    does_all,
    does_nothing,
    every_method,
    operator_key,
    recorded,
    running,
    settings_of,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

WORLDS = {
    "empty": (Actor("bolt"), does_nothing),
    "full": (Actor("bolt", prefix="x-", seed=2), does_all),
    "twin": (Actor("bolt"), does_all),
}
"""B empty; full; and full with A's own names and vectors."""

REFUSED = ["a deleted entity", "ingest of an erased user", "DeleteOperation"]
"""The steps that end with an error, in every run."""


async def run(world: str, database_url: str, redis_url: str, data_dir: Path) -> Record:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    b, does = WORLDS[world]
    async with running(settings_of(database_url, redis_url, data_dir)) as service:
        caller = Caller(service, await operator_key(service))
        return await recorded(caller, Actor("acme"), Actor(b.tenant, b.prefix, b.seed), does)


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
                found[world] = await run(
                    world, url, redis_server, tmp_path_factory.mktemp("data")
                )
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


@pytest.mark.parametrize("world", ["full", "twin"])
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
    assert used == MASKS.keys() | SORTED.keys()
