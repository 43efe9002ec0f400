"""Keys in the database: whom they can be read by, and what the rows keep to."""

import asyncpg
import pytest

from storage.api_keys import ApiKeyStore, HashedKey, KeyDraft
from storage.database import Database
from storage.exceptions import NotFound

_DRAFT = KeyDraft("", "", ("operator",), None)
_HASHED = HashedKey("a" * 12, bytes(32), "")


@pytest.mark.parametrize("tenant_id", [None, "a"])
async def test_connections_of_calls_cannot_read_keys(
    database: Database, maintenance_database: Database, tenant_id: str | None
) -> None:
    await ApiKeyStore(maintenance_database).create(_DRAFT, _HASHED)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.connection(tenant_id) as connection:
            await connection.fetch("SELECT key_id FROM api_keys")


async def test_key_of_no_tenant_is_not_stored(maintenance_database: Database) -> None:
    store = ApiKeyStore(maintenance_database)
    with pytest.raises(NotFound) as caught:
        await store.create(KeyDraft("nobody", "", ("operator",), None), _HASHED)
    assert caught.value.reason == "TENANT_NOT_FOUND"
    assert (await store.mark()).count == 0


async def test_mark_changes_with_every_change_but_a_use(maintenance_database: Database) -> None:
    store = ApiKeyStore(maintenance_database)
    marks = [await store.mark()]
    await store.create(_DRAFT, _HASHED)
    marks.append(await store.mark())
    await store.rotate("", "a" * 12, HashedKey("b" * 12, bytes(32), ""), 60)
    marks.append(await store.mark())
    await store.revoke("", "a" * 12)
    marks.append(await store.mark())
    assert len(set(marks)) == 4
    await store.touch(["a" * 12, "b" * 12])
    await store.revoke("", "a" * 12)
    assert await store.mark() == marks[-1]
    assert [key.key_id for key in await store.live()] == ["b" * 12]
