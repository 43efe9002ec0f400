"""From metadata to who calls, over a real database."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from engine.access import ANONYMOUS, Principal
from engine.api_keys import ApiKeys
from engine.key_ring import TRUSTED_SECS, KeyRing
from engine.key_text import KeyHasher, id_in
from engine.secret import ServerSecret
from server.authentication import Authenticator
from server.listening import is_loopback, listening_host
from server.settings import Settings
from storage.api_keys import ApiKeyStore, KeyDraft
from storage.database import Database
from storage.exceptions import Unauthenticated, Unavailable
from tests.waiting import until

TOKEN = Principal("jwt", "jwt:ada", "a", frozenset({"recommend:read"}))


class OneToken:
    """An identity provider that gave out one token."""

    async def verify(self, token: str) -> Principal:
        if token != "ada's":
            raise Unauthenticated(reason="INVALID_CREDENTIALS")
        return TOKEN


class World:
    def __init__(self, database: Database, tmp_path: Path) -> None:
        hasher = KeyHasher(ServerSecret(tmp_path, SecretStr("p" * 32)))
        store = ApiKeyStore(database)
        self.keys = ApiKeys(store, hasher)
        self.ring = KeyRing(store, hasher)

    async def make(self) -> str:
        draft = KeyDraft("", "", ("recommend:read",), None)
        return (await self.keys.make(draft, ANONYMOUS))[1]

    async def revoke(self, text: str) -> None:
        await self.keys.revoke("", id_in(text) or "", ANONYMOUS)


@pytest.fixture
def world(maintenance_database: Database, tmp_path: Path) -> World:
    return World(maintenance_database, tmp_path)


@pytest.fixture
async def authenticator(world: World) -> AsyncIterator[Authenticator]:
    authenticator = Authenticator(world.ring)
    await authenticator.start()
    yield authenticator
    await authenticator.stop()


def bearer(text: str, scheme: str = "Bearer") -> tuple[tuple[str, str], ...]:
    return (("authorization", f"{scheme} {text}"),)


async def reason_of(authenticator: Authenticator, metadata: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(metadata)
    return caught.value.reason


@pytest.mark.parametrize("metadata", [(), bearer("whatever"), bearer("pk_x"), bearer("x", "Basic")])
async def test_everybody_is_anonymous_without_keys(
    authenticator: Authenticator, metadata: Any
) -> None:
    assert not authenticator.is_required
    assert await authenticator.authenticate(metadata) is ANONYMOUS


async def test_key_is_known_by_each_way_to_send_it(
    world: World, authenticator: Authenticator
) -> None:
    text = await world.make()
    ways: list[Any] = [
        bearer(text),
        bearer(text, "bearer"),
        bearer(f"  {text} "),
        (("x-api-key", text),),
        (("x-api-key", text), *bearer(text)),
        (("x-api-key", text.encode()), ("x-tenant-id", "a")),
    ]
    found = {(await authenticator.authenticate(way)).actor for way in ways}
    assert found == {f"key:{id_in(text)}"}


async def test_call_without_a_key_is_refused_once_there_is_one(
    world: World, authenticator: Authenticator
) -> None:
    await world.make()
    await world.ring.look()
    assert await reason_of(authenticator, ()) == "UNAUTHENTICATED"


async def test_first_key_is_heard_of_within_a_second(
    world: World, authenticator: Authenticator
) -> None:
    await world.make()
    await until(lambda: authenticator.is_required)
    with pytest.raises(Unauthenticated):
        authenticator.check_still(ANONYMOUS)


async def test_wrong_credentials_have_one_answer(
    world: World, authenticator: Authenticator
) -> None:
    text, revoked = await world.make(), await world.make()
    await world.revoke(revoked)
    await world.ring.look()
    wrong: list[Any] = [
        bearer("pk_aaaaaaaaaaaa_" + "A" * 43),
        bearer(text[:-1] + "-"),
        bearer(revoked),
        bearer("no key at all"),
        bearer(""),
        bearer(text, "Basic"),
        (("x-api-key", text), *bearer(revoked)),
    ]
    assert {await reason_of(authenticator, way) for way in wrong} == {"INVALID_CREDENTIALS"}


async def test_token_goes_to_the_verifier_and_a_key_does_not(world: World) -> None:
    authenticator = Authenticator(world.ring, OneToken())
    await authenticator.start()
    try:
        assert authenticator.is_required
        assert await reason_of(authenticator, ()) == "UNAUTHENTICATED"
        assert await authenticator.authenticate(bearer("ada's")) is TOKEN
        assert await reason_of(authenticator, bearer("bob's")) == "INVALID_CREDENTIALS"
        assert await reason_of(authenticator, bearer("pk_ada's")) == "INVALID_CREDENTIALS"
        authenticator.check_still(TOKEN)
    finally:
        await authenticator.stop()


async def test_revocation_ends_what_is_under_way(
    world: World, authenticator: Authenticator
) -> None:
    text = await world.make()
    principal = await authenticator.authenticate(bearer(text))
    authenticator.check_still(principal)
    await world.revoke(text)
    begin = time.monotonic()
    with pytest.raises(Unauthenticated) as caught:
        while time.monotonic() < begin + 10:
            authenticator.check_still(principal)
            await asyncio.sleep(0.01)
    assert caught.value.reason == "INVALID_CREDENTIALS"


async def test_keys_are_not_trusted_for_ever_without_the_database(
    world: World, authenticator: Authenticator
) -> None:
    text = await world.make()
    await authenticator.authenticate(bearer(text))
    await authenticator.stop()
    world.ring._heard_at -= TRUSTED_SECS
    with pytest.raises(Unavailable) as caught:
        await authenticator.authenticate(bearer(text))
    assert caught.value.retry_after is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_loopback_stays_as_it_is(host: str) -> None:
    assert is_loopback(host)
    assert listening_host(Settings(host=host), auth_required=False) == host


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("10.1.2.3", "127.0.0.1"),
        ("example.org", "127.0.0.1"),
        ("::", "[::1]"),
        ("[fd00::1]", "[::1]"),
    ],
)
def test_other_hosts_are_listened_on_once_callers_are_known(host: str, expected: str) -> None:
    settings = Settings(host=host)
    assert listening_host(settings, auth_required=False) == expected
    assert listening_host(settings, auth_required=True) == host
