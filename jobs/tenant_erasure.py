"""A tenant that is being erased: its files, its cached answers and its rows, then the receipt."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import structlog

from engine.cache_keys import answers_of_tenant
from engine.erasure import RESULT_CACHE
from jobs.context import JobContext
from storage.erasure import ReceiptRow
from storage.exceptions import PenchantError

MODEL_ARTEFACTS = "model_artefacts"
"""The store that files of models count under."""

_log = structlog.get_logger(__name__)


async def erase_tenant(context: JobContext, tenant_id: str) -> None:
    """Erases a tenant whose erasure has begun; what cannot be done is left to the next round."""
    try:
        tenant_no = await context.retention.fence(tenant_id)
        if tenant_no is None:
            return
        await _remove_artefacts(context, tenant_id)
        if context.cached is not None:
            removed = await context.cached.remove(answers_of_tenant(tenant_no))
            await context.retention.note_erased(tenant_id, RESULT_CACHE, removed)

        def receipt(erased: str, erased_at: datetime, counts: Mapping[str, int]) -> ReceiptRow:
            return context.signer.issue(erased, "tenant", erased_at, counts).row

        await context.retention.erase(tenant_id, receipt)
    except PenchantError as error:
        _log.warning("tenant not erased yet", tenant_id=tenant_id, error=error.message)
    else:
        _log.info("tenant erased", tenant_id=tenant_id)


async def _remove_artefacts(context: JobContext, tenant_id: str) -> None:
    """Before the rows go, which say whose the files are."""
    hashes = await context.retention.artefacts_of(tenant_id)
    for content_hash in hashes:
        await asyncio.to_thread(context.artefacts.delete, content_hash)
    await context.retention.note_erased(tenant_id, MODEL_ARTEFACTS, len(hashes))
