"""API keys as one worker knows them, over a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine.access import ANONYMOUS
from engine.api_keys import ApiKeys
from engine.key_ring import KeyRing
from engine.key_text import KeyHasher, id_in
from engine.secret import ServerSecret
from storage.api_keys import ApiKeyStore, KeyDraft
from storage.database import Database
from storage.exceptions import FailedPrecondition

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class World:
    """A store, and a ring that a worker would have."""

    def __init__(self, database: Database, tmp_path: Path) -> None:
        self.hasher = KeyHasher(ServerSecret(tmp_path, SecretStr("p" * 32)))
        self.store = ApiKeyStore(database)
        self.keys = ApiKeys(self.store, self.hasher)
        self.clock = Clock()
        self.ring = KeyRing(self.store, self.hasher, clock=self.clock)

    async def make(self, expires_at: datetime | None = None) -> str:
        draft = KeyDraft("", "", ("recommend:read",), expires_at)
        return (await self.keys.make(draft, ANONYMOUS))[1]

    async def revoke(self, text: str) -> None:
        await self.keys.revoke("", id_in(text) or "", ANONYMOUS)


@pytest.fixture
def world(maintenance_database: Database, tmp_path: Path) -> World:
    return World(maintenance_database, tmp_path)


async def test_ring_is_out_of_use_until_a_key_was_made(world: World) -> None:
    await world.ring.look()
    assert not world.ring.in_use
    text = await world.make()
    await world.ring.look()
    assert world.ring.in_use
    await world.revoke(text)
    await world.ring.look()
    assert world.ring.in_use


async def test_key_is_found_by_all_of_its_text(world: World) -> None:
    text = await world.make()
    await world.ring.look()
    found = world.ring.find(text)
    assert found is not None
    assert (found.actor, found.tenant_id, found.scopes) == (
        f"key:{id_in(text)}",
        None,
        {"recommend:read"},
    )
    other = await world.make()
    await world.ring.look()
    prefix = len("pk_") + 13
    wrong = [
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text[:prefix] + other[prefix:],
        text[:-1],
        text + "A",
        f" {text}",
        text.upper(),
        "pk_",
        "",
        "ü" * 60,
    ]
    assert [world.ring.find(one) for one in wrong] == [None] * len(wrong)


async def test_stored_hash_opens_nothing(world: World) -> None:
    text = await world.make()
    await world.ring.look()
    (live,) = await world.store.live()
    stolen = [
        live.secret_hash.hex(),
        f"pk_{live.key_id}_{live.secret_hash.hex()[:43]}",
        f"pk_{live.key_id}_{live.secret_hash.hex()}",
    ]
    assert [world.ring.find(one) for one in stolen] == [None] * 3
    unpeppered = KeyHasher(ServerSecret(Path("/nowhere"), SecretStr("q" * 32)))
    assert unpeppered.hash_of(text) != live.secret_hash


async def test_key_ends_by_the_clock(world: World) -> None:
    text = await world.make(NOW + timedelta(seconds=1))
    await world.ring.look()
    found = world.ring.find(text)
    assert found is not None
    assert world.ring.still_holds(found)
    world.clock.now += timedelta(seconds=1)
    assert world.ring.find(text) is None
    assert not world.ring.still_holds(found)


async def test_revoked_key_is_gone_with_the_next_look(world: World) -> None:
    text = await world.make()
    await world.ring.look()
    found = world.ring.find(text)
    assert found is not None
    await world.revoke(text)
    await world.ring.look()
    assert world.ring.find(text) is None
    assert not world.ring.still_holds(found)


async def test_rotated_key_holds_until_its_overlap_is_over(world: World) -> None:
    text = await world.make()
    await world.ring.look()
    found = world.ring.find(text)
    assert found is not None
    new, new_text, old = await world.keys.rotate("", id_in(text) or "", 3600, ANONYMOUS)
    await world.ring.look()
    assert world.ring.find(new_text) is not None
    assert new.rotated_from == old.key_id
    assert old.expires_at is not None
    world.clock.now = old.expires_at - timedelta(seconds=1)
    assert world.ring.still_holds(found)
    world.clock.now = old.expires_at
    assert world.ring.find(text) is None
    assert world.ring.find(new_text) is not None


async def test_changes_that_commit_out_of_order_are_seen(
    world: World, owner_database: Database
) -> None:
    """The later revision commits first; the earlier one must not be missed."""
    first, second = await world.make(), await world.make()
    await world.ring.look()
    async with owner_database.connection("") as connection, connection.transaction():
        await connection.execute(
            "UPDATE api_keys SET revoked_at = now(), revision = nextval('revision_seq') "
            "WHERE key_id = $1",
            id_in(first),
        )
        await world.revoke(second)
        await world.ring.look()
        assert world.ring.find(first) is not None
    await world.ring.look()
    assert (world.ring.find(first), world.ring.find(second)) == (None, None)


async def test_key_made_elsewhere_is_known_after_another_look(world: World) -> None:
    await world.ring.look()
    text = await world.make()
    assert world.ring.find(text) is None
    await world.ring.look_again()
    assert world.ring.find(text) is not None


async def test_looks_for_wrong_keys_are_shared_and_few_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    mark = world.store.mark

    async def counted() -> object:
        nonlocal looks
        looks += 1
        return await mark()

    monkeypatch.setattr(world.store, "mark", counted)
    await asyncio.gather(*(world.ring.look_again() for _ in range(200)))
    assert looks == 1


async def test_use_is_written_down_once_a_minute(world: World) -> None:
    text = await world.make()
    await world.ring.look()
    world.ring.find(text)
    await world.ring.note_uses()
    used = (await world.keys.find(id_in(text) or "")).last_used_at
    assert used is not None
    world.ring.find(text)
    await world.ring.note_uses()
    assert (await world.keys.find(id_in(text) or "")).last_used_at == used


async def test_key_of_another_pepper_does_not_work_and_counts(world: World, tmp_path: Path) -> None:
    text = await world.make()
    other = KeyHasher(ServerSecret(tmp_path, SecretStr("q" * 32)))
    ring = KeyRing(world.store, other)
    await ring.look()
    assert ring.in_use
    assert ring.find(text) is None


async def test_known_keys_stay_good_while_the_database_is_away(
    world: World, maintenance_database: Database
) -> None:
    text = await world.make()
    await world.ring.look()
    await maintenance_database.close()
    with pytest.raises(FailedPrecondition):
        await world.ring.look()
    assert world.ring.find(text) is not None
    assert world.ring.is_trusted
