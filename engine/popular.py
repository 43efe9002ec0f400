"""What is popular a tenant, read now and then for the time when PostgreSQL is away."""

import asyncio
import contextlib

from engine.answers import Item, Reason
from engine.last_good import LastGood
from engine.sources.newest import NEWEST
from engine.sources.popular import POPULAR
from engine.tenants import TenantDirectory
from storage.exceptions import PenchantError
from storage.tenants import Tenant
from storage.vector_store import Candidate, CandidateQuery, VectorStore

_LENGTH = 100


class PopularLists:
    """Keeps the popular lists of the tenants that are asked, one reading at a time."""

    def __init__(self, tenants: TenantDirectory, vectors: VectorStore, kept: LastGood) -> None:
        self._tenants = tenants
        self._vectors = vectors
        self._kept = kept
        self._reading: asyncio.Task[None] | None = None

    def asked(self, tenant: Tenant, entity_type: str) -> None:
        """A tenant was asked for entities of a type ("": of all) and has some."""
        if self._reading is not None and not self._reading.done():
            return
        if self._kept.popular_due(tenant.tenant_no, entity_type):
            self._reading = asyncio.create_task(self._read(tenant, entity_type))

    async def _read(self, tenant: Tenant, entity_type: str) -> None:
        query = CandidateQuery(
            sources=frozenset({POPULAR.name, NEWEST.name}),
            limit=_LENGTH,
            entity_type=entity_type or None,
        )
        with contextlib.suppress(PenchantError):  # nobody waits; the former list stays
            found = await self._tenants.run(tenant, lambda t: self._vectors.candidates(t, query))
            if found:
                self._kept.keep_popular(tenant.tenant_no, entity_type, _in_order(found))


def _in_order(candidates: list[Candidate]) -> list[Item]:
    """The popular ones first, with scores relative to the first; then the newest, with none."""
    popular: list[tuple[float, Candidate]] = []
    others: list[tuple[float, Candidate]] = []
    for candidate in candidates:
        raws = dict(zip(candidate.sources, candidate.raws, strict=True))
        if POPULAR.name in raws:
            popular.append((raws[POPULAR.name], candidate))
        else:
            others.append((raws[NEWEST.name], candidate))
    popular.sort(key=lambda pair: (-pair[0], pair[1].entity_no))
    others.sort(key=lambda pair: (-pair[0], -pair[1].entity_no))
    best = popular[0][0] if popular else 1.0
    return [_item(c, raw / best, POPULAR.name) for raw, c in popular] + [
        _item(c, 0.0, NEWEST.name) for _, c in others
    ]


def _item(candidate: Candidate, score: float, source: str) -> Item:
    return Item(
        candidate.entity_no,
        candidate.entity_type,
        candidate.entity_id,
        score,
        (Reason(source, 1.0),),
        candidate.attributes,
    )
