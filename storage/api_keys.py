"""API keys: rows without secrets, which only the maintenance role sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.database import Database
from storage.exceptions import FailedPrecondition, NotFound
from storage.queries import load

_SQL = load("api_keys")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its row says, without its hash.

    Attributes:
        tenant_id: whose it is; empty: the operator's.
        scopes: what it allows, in byte order.
        expires_at: when it ends by itself; None: never.
        last_used_at: to the minute; None: never.
        rotated_from: the key that it follows; None: it follows none.
    """

    key_id: str
    tenant_id: str
    display_name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rotated_from: str | None


@dataclass(frozen=True, slots=True)
class LiveKey:
    """What is needed to check a key.

    Attributes:
        secret_hash: 32 bytes.
        pepper: fingerprint of the pepper that the hash was made with.
    """

    key_id: str
    tenant_id: str
    scopes: tuple[str, ...]
    secret_hash: bytes
    pepper: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """A key to be made; `tenant_id` empty: the operator's."""

    tenant_id: str
    display_name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class HashedKey:
    """A new key's visible id and the hash of all of it, with its pepper's fingerprint."""

    key_id: str
    secret_hash: bytes
    pepper: str


@dataclass(frozen=True, slots=True)
class KeysMark:
    """Equal as long as no key was made, changed or deleted; `count` is of all, ended ones too."""

    count: int
    mark: str


def _key(row: Any) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        display_name=row["display_name"],
        scopes=tuple(row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        rotated_from=row["rotated_from"],
    )


def _not_found(key_id: str) -> NotFound:
    return NotFound(
        f"There is no API key {key_id!r}.", reason="KEY_NOT_FOUND", metadata={"key_id": key_id}
    )


class ApiKeyStore:
    """Makes, finds and ends keys.

    Args:
        maintenance: connections that see all tenants.
    """

    def __init__(self, maintenance: Database) -> None:
        self._maintenance = maintenance

    async def create(self, draft: KeyDraft, hashed: HashedKey) -> ApiKey:
        """Stores a new key; NotFound when there is no such tenant."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(
                _SQL["create_api_key"],
                hashed.key_id,
                draft.tenant_id,
                draft.display_name,
                list(draft.scopes),
                hashed.secret_hash,
                hashed.pepper,
                draft.expires_at,
            )
        if row is None:
            raise NotFound(
                f"There is no tenant {draft.tenant_id!r}.",
                reason="TENANT_NOT_FOUND",
                metadata={"tenant_id": draft.tenant_id},
            )
        return _key(row)

    async def get(self, tenant_id: str | None, key_id: str) -> ApiKey:
        """One key of a tenant ("": of the operator, None: whosever); NotFound (KEY_NOT_FOUND)."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(_SQL["get_api_key"], tenant_id, key_id)
        if row is None:
            raise _not_found(key_id)
        return _key(row)

    async def page(self, tenant_id: str | None, after: str, limit: int) -> list[ApiKey]:
        """Keys of a tenant ("": of the operator, None: of all) after an id, in byte order."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["list_api_keys"], tenant_id, after, limit)
        return [_key(row) for row in rows]

    async def rotate(
        self, tenant_id: str, key_id: str, hashed: HashedKey, overlap_secs: float
    ) -> tuple[ApiKey, ApiKey]:
        """The key that follows one with the same rights, and the old one with its end.

        Raises:
            NotFound: there is no such key (KEY_NOT_FOUND).
            FailedPrecondition: it is revoked or has expired (KEY_ENDED).
        """
        async with self._maintenance.transaction(None) as connection:
            held = await connection.fetchrow(_SQL["hold_api_key"], tenant_id, key_id)
            if held is None:
                raise _not_found(key_id)
            if held["has_ended"]:
                raise FailedPrecondition(
                    f"The API key {key_id!r} is revoked or has expired: make a new one.",
                    reason="KEY_ENDED",
                    metadata={"key_id": key_id},
                )
            new = await connection.fetchrow(
                _SQL["follow_api_key"], key_id, hashed.key_id, hashed.secret_hash, hashed.pepper
            )
            old = await connection.fetchrow(_SQL["end_api_key_after"], key_id, overlap_secs)
        return _key(new), _key(old)

    async def revoke(self, tenant_id: str, key_id: str) -> ApiKey:
        """Ends a key; once is enough. NotFound (KEY_NOT_FOUND)."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(_SQL["revoke_api_key"], tenant_id, key_id)
        return _key(row) if row is not None else await self.get(tenant_id, key_id)

    async def mark(self) -> KeysMark:
        """Whether there is news since an earlier mark."""
        async with self._maintenance.connection(None) as connection:
            row = await connection.fetchrow(_SQL["api_keys_mark"])
        assert row is not None
        return KeysMark(row["key_count"], row["mark"])

    async def live(self) -> list[LiveKey]:
        """All keys that are neither revoked nor expired."""
        async with self._maintenance.connection(None) as connection:
            rows = await connection.fetch(_SQL["live_api_keys"])
        return [
            LiveKey(
                key_id=row["key_id"],
                tenant_id=row["tenant_id"],
                scopes=tuple(row["scopes"]),
                secret_hash=row["secret_hash"],
                pepper=row["pepper"],
                expires_at=row["expires_at"],
            )
            for row in rows
        ]

    async def touch(self, key_ids: Sequence[str]) -> None:
        """Notes that keys were used just now."""
        async with self._maintenance.connection(None) as connection:
            await connection.execute(_SQL["touch_api_keys"], list(key_ids))
