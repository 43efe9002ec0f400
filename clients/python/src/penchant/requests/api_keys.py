"""Requests of ApiKeyService."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from penchant.requests.parts import duration
from penchant.v1 import api_key_pb2 as keys


def create_api_key(
    tenant_id: str,
    scopes: Sequence[str],
    *,
    display_name: str = "",
    expires_at: datetime | None = None,
) -> keys.CreateApiKeyRequest:
    """Makes a key of a tenant, or of the operator ("" as tenant); `secret` is the whole key.

    It cannot be had again. `expires_at` needs a time zone.
    """
    key = keys.ApiKey(tenant_id=tenant_id, scopes=scopes, display_name=display_name)
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise ValueError("expires_at has no time zone")
        ends = Timestamp()
        ends.FromDatetime(expires_at)
        key.expires_at.CopyFrom(ends)
    return keys.CreateApiKeyRequest(api_key=key)


def get_api_key(tenant_id: str, key_id: str) -> keys.GetApiKeyRequest:
    """One key without its secret; NotFound when the tenant has none of that id."""
    return keys.GetApiKeyRequest(tenant_id=tenant_id, key_id=key_id)


def list_api_keys(tenant_id: str, *, page_size: int = 0) -> keys.ListApiKeysRequest:
    """All keys of a tenant, ended ones too, fetched `page_size` (50 when 0) at a time."""
    return keys.ListApiKeysRequest(tenant_id=tenant_id, page_size=page_size)


def rotate_api_key(
    tenant_id: str, key_id: str, *, overlap: timedelta | None = None
) -> keys.RotateApiKeyRequest:
    """Makes a key with the same rights; `old` ends after the overlap, 24 hours when left out."""
    return keys.RotateApiKeyRequest(tenant_id=tenant_id, key_id=key_id, overlap=duration(overlap))


def revoke_api_key(tenant_id: str, key_id: str) -> keys.RevokeApiKeyRequest:
    """Ends a key on every worker within a second."""
    return keys.RevokeApiKeyRequest(tenant_id=tenant_id, key_id=key_id)
