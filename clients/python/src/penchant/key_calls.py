"""The calls of ApiKeyService, for both clients."""

from penchant.async_calls import AsyncCall, AsyncCaller, AsyncPages
from penchant.calls import Call, Pages
from penchant.requests import api_keys
from penchant.responses import unchanged
from penchant.sync_calls import SyncCall, SyncCaller, SyncPages

CREATE = Call(lambda stubs: stubs.api_key.CreateApiKey, api_keys.create_api_key, unchanged)
GET = Call(
    lambda stubs: stubs.api_key.GetApiKey, api_keys.get_api_key, lambda answer: answer.api_key
)
LIST = Pages(
    lambda stubs: stubs.api_key.ListApiKeys, api_keys.list_api_keys, lambda page: page.api_keys
)
ROTATE = Call(lambda stubs: stubs.api_key.RotateApiKey, api_keys.rotate_api_key, unchanged)
REVOKE = Call(
    lambda stubs: stubs.api_key.RevokeApiKey,
    api_keys.revoke_api_key,
    lambda answer: answer.api_key,
)


class Keys:
    """The calls of ApiKeyService; they answer with the messages of `penchant.v1.api_key_pb2`."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller

    create = AsyncCall(CREATE)
    get = AsyncCall(GET)
    list = AsyncPages(LIST)
    rotate = AsyncCall(ROTATE)
    revoke = AsyncCall(REVOKE)


class SyncKeys:
    """The calls of ApiKeyService; they answer with the messages of `penchant.v1.api_key_pb2`."""

    def __init__(self, caller: SyncCaller) -> None:
        self.caller = caller

    create = SyncCall(CREATE)
    get = SyncCall(GET)
    list = SyncPages(LIST)
    rotate = SyncCall(ROTATE)
    revoke = SyncCall(REVOKE)
