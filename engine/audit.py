"""The audit: who administrated what, when and from where."""

from functools import cached_property
from hashlib import blake2b

from engine.identifiers import check_tenant_id
from engine.secret import ServerSecret
from storage.audit import AuditEntry, AuditEvent, AuditStore

_DIGEST_BYTES = 16
_MAX_TEXT = 512


class AuditLog:
    """Appends events and reads them; nobody can change one.

    Args:
        store: where they are kept.
        secret: the key of users' hashes derives from it.
    """

    def __init__(self, store: AuditStore, secret: ServerSecret) -> None:
        self._store = store
        self._secret = secret

    @cached_property
    def _key(self) -> bytes:
        return self._secret.derive("audit")

    def user(self, tenant_id: str, user_id: str) -> str:
        """What stands for a user's id: `user:` and 32 hexadecimal digits, by tenant (BLAKE2b)."""
        digest = blake2b(tenant_id.encode(), key=self._key, digest_size=_DIGEST_BYTES)
        digest.update(b"\0")
        digest.update(user_id.encode())
        return f"user:{digest.hexdigest()}"

    async def append(self, entry: AuditEntry) -> None:
        """Writes an event; its texts are cut to 512 characters and lose control characters."""
        await self._store.append(
            AuditEntry(
                actor=_plain(entry.actor),
                method=_plain(entry.method),
                tenant_id=_plain(entry.tenant_id),
                target=_plain(entry.target),
                code=entry.code,
                peer=_plain(entry.peer),
                request_id=_plain(entry.request_id),
            )
        )

    async def page(self, tenant_id: str, before: int | None, limit: int) -> list[AuditEvent]:
        """Events of a tenant ("": all), the newest first, older than one (None: all)."""
        wanted = check_tenant_id(tenant_id) if tenant_id else None
        return await self._store.page(wanted, before, limit)


def _plain(text: str) -> str:
    known = text[:_MAX_TEXT].encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else "?" for char in known)
