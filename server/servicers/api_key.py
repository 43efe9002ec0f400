"""ApiKeyService."""

from typing import Any

import grpc
from penchant.v1 import api_key_pb2 as pb
from penchant.v1.api_key_pb2_grpc import ApiKeyServiceServicer

from engine.api_keys import DEFAULT_OVERLAP_SECS, ApiKeys
from engine.identifiers import check_page_size
from server.call import current_call
from server.convert import fill_timestamp, to_datetime, to_seconds
from server.paging import hash_of, key_token, text_key
from storage.api_keys import ApiKey, KeyDraft

_DEFAULT_PAGE_SIZE = 50
_Context = grpc.aio.ServicerContext[Any, Any]


def _parse_key(message: pb.ApiKey) -> KeyDraft:
    expires = message.expires_at if message.HasField("expires_at") else None
    return KeyDraft(
        tenant_id=message.tenant_id,
        display_name=message.display_name,
        scopes=tuple(message.scopes),
        expires_at=None if expires is None else to_datetime(expires, "api_key.expires_at"),
    )


def _render_key(key: ApiKey, target: pb.ApiKey) -> None:
    target.key_id, target.tenant_id = key.key_id, key.tenant_id
    target.display_name = key.display_name
    target.scopes.extend(key.scopes)
    target.rotated_from = key.rotated_from or ""
    fill_timestamp(target.created_at, key.created_at)
    fill_timestamp(target.expires_at, key.expires_at)
    fill_timestamp(target.revoked_at, key.revoked_at)
    fill_timestamp(target.last_used_at, key.last_used_at)


class ApiKeyServicer(ApiKeyServiceServicer):
    """Keys of tenants and of the operator, on behalf of who calls."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: _Context
    ) -> pb.CreateApiKeyResponse:
        """Makes a key and shows it, once."""
        key, text = await self._keys.make(_parse_key(request.api_key), current_call().principal)
        response = pb.CreateApiKeyResponse(secret=text)
        _render_key(key, response.api_key)
        return response

    async def GetApiKey(
        self, request: pb.GetApiKeyRequest, context: _Context
    ) -> pb.GetApiKeyResponse:
        """One key without its secret."""
        by = current_call().principal
        response = pb.GetApiKeyResponse()
        _render_key(await self._keys.get(request.tenant_id, request.key_id, by), response.api_key)
        return response

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: _Context
    ) -> pb.ListApiKeysResponse:
        """A page of keys in byte order."""
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, "")
        (after,) = text_key(request.page_token, "api_keys", hashed, 1) or ("",)
        by = current_call().principal
        keys = await self._keys.page(request.tenant_id, after, size + 1, by)
        response = pb.ListApiKeysResponse()
        for key in keys[:size]:
            _render_key(key, response.api_keys.add())
        if len(keys) > size:
            response.next_page_token = key_token("api_keys", hashed, [keys[size - 1].key_id])
        return response

    async def RotateApiKey(
        self, request: pb.RotateApiKeyRequest, context: _Context
    ) -> pb.RotateApiKeyResponse:
        """Makes the key that follows and shows it, once."""
        overlap = to_seconds(request.overlap) if request.HasField("overlap") else None
        new, text, old = await self._keys.rotate(
            request.tenant_id,
            request.key_id,
            DEFAULT_OVERLAP_SECS if overlap is None else overlap,
            current_call().principal,
        )
        response = pb.RotateApiKeyResponse(secret=text)
        _render_key(new, response.api_key)
        _render_key(old, response.old)
        return response

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: _Context
    ) -> pb.RevokeApiKeyResponse:
        """Ends a key."""
        key = await self._keys.revoke(request.tenant_id, request.key_id, current_call().principal)
        response = pb.RevokeApiKeyResponse()
        _render_key(key, response.api_key)
        return response
