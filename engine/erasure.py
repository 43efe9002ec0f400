"""Erasing people: everything that is kept of a user goes, and a signed receipt says so."""

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from engine.cache_keys import answers_of_tenant, answers_of_user
from engine.identifiers import check_id, check_tenant_id
from engine.last_good import LastGood
from engine.receipts import Receipt, ReceiptSigner, read_receipt
from engine.tenants import TenantDirectory
from engine.tombstones import Tombstones
from engine.training.checks import names
from engine.trainings import Trainings
from storage.cached_answers import CachedAnswers
from storage.erasure import ErasureStore, Removed
from storage.exceptions import FailedPrecondition, NotFound, PenchantError, ResourceExhausted
from storage.models import ModelRow, ModelStore
from storage.retry import retry_transient
from storage.tenants import Tenant

RESULT_CACHE = "result_cache"
"""The store that cached answers count under."""

_PATIENCE_SECS = 20.0
_RETRY_SECS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Erased:
    """A receipt, and the trainings that were started, as operation ids."""

    receipt: Receipt
    retrainings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a user, by store, and whether all that they do is refused."""

    counts: dict[str, int]
    refused: bool

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.counts.values())


class Privacy:
    """Erases users and proves it.

    Args:
        cached: None where no Redis is configured.
        last_good: of this worker; the others hear of it through `engine.erasure_watch`.
    """

    def __init__(
        self,
        *,
        tenants: TenantDirectory,
        store: ErasureStore,
        models: ModelStore,
        trainings: Trainings,
        tombstones: Tombstones,
        signer: ReceiptSigner,
        cached: CachedAnswers | None,
        last_good: LastGood,
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._models = models
        self._trainings = trainings
        self._tombstones = tombstones
        self.signer = signer
        self._cached = cached
        self._last_good = last_good

    async def erase(self, tenant: Tenant, user_id: str, *, readmit: bool = False) -> Erased:
        """Removes all that is kept of a stored user id; it may be called again at any time.

        After a failure on the way the user is refused already; the next call goes on, and its
        receipt counts what the earlier one removed.

        Args:
            readmit: takes in what the user does later; only what is older stays refused.

        Raises:
            Aborted: writers under way, or a placement move, did not end in time.
            Unavailable: PostgreSQL or Redis is away: there is no receipt before both were searched.
        """
        hashed = self._tombstones.hash(tenant.tenant_id, user_id)
        erased_at = await retry_transient(
            lambda: self._tenants.run(tenant, lambda t: self._store.refuse(t, hashed)),
            deadline_secs=_PATIENCE_SECS,
            attempts=100,
        )
        removed = await self._tenants.run(
            tenant, lambda t: self._store.remove(t, user_id, hashed, readmit=readmit)
        )
        self._last_good.forget(tenant.tenant_no, user_id)
        counts = removed.counts | await self._forget_cached(tenant, user_id, removed)
        receipt = await asyncio.to_thread(
            self.signer.issue,
            tenant.tenant_id,
            "user",
            erased_at,
            counts,
            model_versions=removed.model_versions,
            user_id=user_id,
        )
        await self._store.add_receipt(receipt.row, hashed)
        _log.info(
            "user erased",
            tenant_id=tenant.tenant_id,
            receipt_id=receipt.row.receipt_id,
            removed=sum(counts.values()),
        )
        return Erased(receipt, await self._retrain(tenant, removed))

    async def verify(self, tenant: Tenant, user_id: str) -> Found:
        """Looks for a stored user id in every store."""
        counts = await self._store.find(tenant.tenant_id, user_id)
        if self._cached is not None:
            prefix = answers_of_user(tenant.tenant_no, user_id)
            counts[RESULT_CACHE] = await self._cached.count(prefix)
        hashed = self._tombstones.hash(tenant.tenant_id, user_id)
        return Found(counts, await self._store.is_refused(tenant.tenant_id, hashed) is True)

    async def readmit(self, tenant: Tenant, user_id: str) -> None:
        """Takes in again what an erased user does from now on; NotFound for one not erased."""
        hashed = self._tombstones.hash(tenant.tenant_id, user_id)
        if not await self._store.readmit(tenant.tenant_id, hashed):
            raise NotFound("The user was not erased.")

    async def receipt(self, tenant: Tenant, receipt_id: str) -> Receipt:
        """A tenant's receipt; NotFound (RECEIPT_NOT_FOUND) for none of that id."""
        row = await self._store.receipt(tenant.tenant_id, check_id(receipt_id, "receipt_id"))
        if row is None:
            raise NotFound("There is no receipt of that id.", reason="RECEIPT_NOT_FOUND")
        return read_receipt(row)

    async def tenant_receipt(self, tenant_id: str) -> Receipt:
        """The receipt of an erased tenant.

        Raises:
            FailedPrecondition: its rows are still being deleted (ERASURE_UNDER_WAY).
            NotFound: there is no such tenant, or it was not erased (RECEIPT_NOT_FOUND).
        """
        state, row = await self._store.tenant_receipt(check_tenant_id(tenant_id))
        if row is not None:
            return read_receipt(row)
        if state == "erasing":
            raise FailedPrecondition(
                "The tenant's rows are still being deleted.",
                reason="ERASURE_UNDER_WAY",
                retry_after=_RETRY_SECS,
            )
        raise NotFound("No tenant of that id was erased.", reason="RECEIPT_NOT_FOUND")

    async def _forget_cached(
        self, tenant: Tenant, user_id: str, removed: Removed
    ) -> dict[str, int]:
        if self._cached is None:
            return {}
        # Answers to others may recommend an entity that is a user.
        prefix = (
            answers_of_tenant(tenant.tenant_no)
            if removed.counts["entities"]
            else answers_of_user(tenant.tenant_no, user_id)
        )
        return {RESULT_CACHE: await self._cached.remove(prefix)}

    async def _retrain(self, tenant: Tenant, removed: Removed) -> tuple[str, ...]:
        if not removed.trainable:
            return ()
        started = []
        for name in sorted({version.rpartition("@")[0] for version in removed.model_versions}):
            try:
                model = await self._tenants.run(tenant, partial(self._model, name))
                if model.algorithm in names():
                    started.append((await self._trainings.train(tenant, name)).operation_id)
            except (NotFound, ResourceExhausted) as error:
                _not_retrained(tenant, name, error)
        return tuple(started)

    async def _model(self, name: str, tenant: Tenant) -> ModelRow:
        return await self._models.get(tenant, name)


def _not_retrained(tenant: Tenant, name: str, error: PenchantError) -> None:
    _log.warning(
        "model not trained anew", tenant_id=tenant.tenant_id, model=name, error=error.message
    )
