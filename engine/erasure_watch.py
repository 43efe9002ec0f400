"""What other workers erased: this worker's memory forgets it too, within a second or two."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Self

import structlog

from engine.last_good import LastGood
from engine.tombstones import Tombstones
from storage.ending import end
from storage.erasure import ErasureStore, Tombstone
from storage.exceptions import PenchantError

_POLL_SECS = 1.0
_OVERLAP_SECS = 10.0
"""Erasures become visible some time after the instant that they carry, and answers under way at
that moment are kept a little later."""

_log = structlog.get_logger(__name__)


class ErasureWatch:
    """Asks PostgreSQL every second for users and tenants that were erased, within its context.

    Args:
        on_erasure: called when there are any, each for what is kept elsewhere.
    """

    def __init__(
        self,
        store: ErasureStore,
        tombstones: Tombstones,
        last_good: LastGood,
        on_erasure: Collection[Callable[[], object]] = (),
    ) -> None:
        self._store = store
        self._tombstones = tombstones
        self._last_good = last_good
        self._on_erasure = on_erasure
        self._looked_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    async def look(self) -> None:
        """Forgets whom others have erased since the last look."""
        now = time.monotonic()
        seconds = now - self._looked_at + _OVERLAP_SECS
        tenants = await self._store.tenants_erased_lately(seconds)
        for tenant_no in tenants:
            self._last_good.forget_tenant(tenant_no)
        tombstones = await self._store.erased_lately(seconds)
        if tenants or tombstones:
            for forget in self._on_erasure:
                forget()
        for tombstone in tombstones:
            users = self._last_good.users_of(tombstone.tenant_no)
            for user_id in await asyncio.to_thread(self._matching, tombstone, users):
                self._last_good.forget(tombstone.tenant_no, user_id)
        self._looked_at = now

    def _matching(self, tombstone: Tombstone, users: list[str]) -> list[str]:
        hashed, wanted = self._tombstones.hash, tombstone.user_hash
        return [user_id for user_id in users if hashed(tombstone.tenant_id, user_id) == wanted]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECS)
            try:
                await self.look()
            except PenchantError as error:
                # While PostgreSQL is away nobody is erased; the next look goes back as far.
                _log.debug("erasures not looked for", error=error.message)
