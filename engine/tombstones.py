"""What stays of an erased user: a keyed hash of the id, which no list of ids turns back."""

from functools import cached_property
from hashlib import blake2b

from engine.secret import ServerSecret
from storage.exceptions import FailedPrecondition

USER_TYPE = "user"
"""The entity type whose entities are users: one of that type and an erased user's id is theirs."""

_DIGEST_BYTES = 32


class Tombstones:
    """Hashes users' ids (keyed BLAKE2b, RFC 7693), a different hash in each tenant.

    Args:
        secret: the key derives from it; with another pepper no erased user is recognised.
    """

    def __init__(self, secret: ServerSecret) -> None:
        self._secret = secret

    @cached_property
    def _key(self) -> bytes:
        return self._secret.derive("erased users")

    def hash(self, tenant_id: str, user_id: str) -> bytes:
        """The 32 bytes that stand for a stored user id."""
        digest = blake2b(tenant_id.encode(), key=self._key, digest_size=_DIGEST_BYTES)
        digest.update(b"\0")
        digest.update(user_id.encode())
        return digest.digest()

    def hash_entity(self, tenant_id: str, entity_type: str, entity_id: str) -> bytes | None:
        """The hash of the user that an entity is; None for an entity of another type."""
        return self.hash(tenant_id, entity_id) if entity_type == USER_TYPE else None


def user_erased() -> FailedPrecondition:
    """The error of a write for an erased user; it does not repeat the id."""
    return FailedPrecondition("The user was erased.", reason="USER_ERASED")
