"""What people do with API keys: make, look at, rotate and revoke them."""

from datetime import UTC, datetime

from engine.access import OPERATOR, Principal, check_scopes, implied
from engine.identifiers import check_id, check_tenant_id
from engine.key_text import KeyHasher, is_key_id
from storage.api_keys import ApiKey, ApiKeyStore, KeyDraft
from storage.exceptions import InvalidArgument, NotFound

DEFAULT_OVERLAP_SECS = 24 * 3600.0
MAX_OVERLAP_SECS = 90 * 86400.0


class ApiKeys:
    """The keys of tenants ("" stands for the operator) on behalf of a principal.

    Nobody gives away more than they have: a new key's scopes must be among the maker's. The
    operator's keys are the business of those with the scope operator alone.

    Raises, all methods:
        PermissionDenied: SCOPE_MISSING or TENANT_MISMATCH.
        NotFound: no such key of that tenant (KEY_NOT_FOUND).
    """

    def __init__(self, store: ApiKeyStore, hasher: KeyHasher) -> None:
        self._store = store
        self._hasher = hasher

    async def make(self, draft: KeyDraft, by: Principal) -> tuple[ApiKey, str]:
        """A new key as stored, and its whole text, which is nowhere else.

        Raises:
            InvalidArgument: unknown scopes, an end that is past, a bad tenant id or name.
            NotFound: there is no such tenant (TENANT_NOT_FOUND).
        """
        _check_owner(draft.tenant_id, by, "api_key.tenant_id")
        scopes = check_scopes(draft.scopes, draft.tenant_id, "api_key.scopes")
        _require_all(scopes, draft.tenant_id, by)
        if draft.display_name:
            check_id(draft.display_name, "api_key.display_name")
        if draft.expires_at is not None and draft.expires_at <= datetime.now(UTC):
            raise InvalidArgument.field("api_key.expires_at", "is past")
        text, hashed = self._hasher.make()
        checked = KeyDraft(draft.tenant_id, draft.display_name, scopes, draft.expires_at)
        return await self._store.create(checked, hashed), text

    async def get(self, tenant_id: str, key_id: str, by: Principal) -> ApiKey:
        """One key."""
        _check_owner(tenant_id, by, "tenant_id")
        return await self._store.get(tenant_id, _check_key_id(key_id))

    async def find(self, key_id: str) -> ApiKey:
        """One key, whosever it is; for those who stand at the database itself."""
        return await self._store.get(None, _check_key_id(key_id))

    async def page(self, tenant_id: str, after: str, limit: int, by: Principal) -> list[ApiKey]:
        """Keys after an id, in byte order, ended ones too."""
        _check_owner(tenant_id, by, "tenant_id")
        return await self._store.page(tenant_id, after, limit)

    async def page_of_all(self, after: str, limit: int) -> list[ApiKey]:
        """Like `page`, of all tenants and the operator; for those at the database itself."""
        return await self._store.page(None, after, limit)

    async def rotate(
        self, tenant_id: str, key_id: str, overlap_secs: float, by: Principal
    ) -> tuple[ApiKey, str, ApiKey]:
        """The key that follows, its whole text, and the old key, which ends after the overlap.

        Args:
            overlap_secs: 0 to 90 days; an earlier end of the old key stays.

        Raises:
            InvalidArgument: an overlap outside its limits.
            FailedPrecondition: the key is revoked or has expired (KEY_ENDED).
        """
        _check_owner(tenant_id, by, "tenant_id")
        if not 0 <= overlap_secs <= MAX_OVERLAP_SECS:
            raise InvalidArgument.field("overlap", "must lie within 0 and 90 days")
        old = await self._store.get(tenant_id, _check_key_id(key_id))
        _require_all(old.scopes, tenant_id, by)
        text, hashed = self._hasher.make()
        new, old = await self._store.rotate(tenant_id, key_id, hashed, overlap_secs)
        return new, text, old

    async def revoke(self, tenant_id: str, key_id: str, by: Principal) -> ApiKey:
        """Ends a key on every worker within a second; doing it again changes nothing."""
        _check_owner(tenant_id, by, "tenant_id")
        return await self._store.revoke(tenant_id, _check_key_id(key_id))


def _check_owner(tenant_id: str, by: Principal, field: str) -> None:
    by.require_tenant(tenant_id)
    if tenant_id:
        check_tenant_id(tenant_id, field)
    else:
        by.require(OPERATOR)


def _require_all(scopes: tuple[str, ...], tenant_id: str, by: Principal) -> None:
    for scope in sorted(implied(scopes, of_tenant=bool(tenant_id))):
        by.require(scope)


def _check_key_id(key_id: str) -> str:
    if not key_id:
        raise InvalidArgument.field("key_id", "must not be empty")
    if not is_key_id(key_id):
        # What is sent by mistake may be a whole key: it must not come back in a message.
        raise NotFound("There is no API key of that id.", reason="KEY_NOT_FOUND")
    return key_id
