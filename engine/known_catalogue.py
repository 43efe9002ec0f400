"""What a worker remembers of catalogues: entities, and the lists that all users of a tenant share.

All of it is of one revision of the tenant's catalogue and is dropped with the first answer that
knows of another: what is composed of it is what PostgreSQL would have answered.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from prometheus_client import Gauge

from storage.ending import end
from storage.exceptions import PenchantError
from storage.tenants import Tenant
from storage.vector_store import EntityFacts, RankedList, VectorStore

BYTES = Gauge(
    "penchant_known_catalogue_bytes",
    "Memory of what the workers remember of catalogues.",
    multiprocess_mode="livesum",
)

_OF_AN_ENTITY = 700  # bytes beside its attributes, measured with tracemalloc
_OF_A_LISTED = 80
_WORTH_LISTING = 3  # answers of one revision; a catalogue that changes all the time is not listed

Revision = tuple[int, int]
"""The version of the tenant's row and the revision of the catalogue."""


class KnownTenant:
    """What is known of one tenant's catalogue at one revision.

    Attributes:
        entities: by number; None for one that is no more.
        lists: by source; those of a segment by ("segment", its name).
        size: bytes, as estimated.
        counted: of them, in what all tenants take together.
    """

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.entities: dict[int, EntityFacts | None] = {}
        self.lists: dict[tuple[str, str], RankedList] = {}
        self.answers = 0
        self.size = 0
        self.counted = 0

    def learn(
        self, facts: Mapping[int, EntityFacts], wanted: Iterable[int], revision: int | None
    ) -> None:
        """Takes in what a statement found.

        Args:
            facts: of entities that were not known.
            wanted: numbers that were asked for; what was not found of them is no more.
            revision: of the catalogue that the statement saw; of another one nothing is taken.
        """
        if revision != self.revision[1]:
            return
        self.entities |= facts
        self.size += sum(len(f.attributes) + _OF_AN_ENTITY for f in facts.values())
        for number in wanted:
            if number not in self.entities:
                self.entities[number] = None
                self.size += _OF_A_LISTED

    def ranked(self, source: str, segment: str) -> RankedList | None:
        """A list of this revision, if it is known."""
        return self.lists.get((source, segment if source == "segment" else ""))


class KnownCatalogue:
    """What a worker knows of its tenants' catalogues.

    Args:
        vectors: where lists are read.
        limit: bytes, as estimated; tenants that were not asked for longest go first. 0: nothing is
            remembered.
    """

    def __init__(self, vectors: VectorStore, limit: int) -> None:
        self._vectors = vectors
        self._limit = limit
        self._tenants: OrderedDict[int, KnownTenant] = OrderedDict()
        self._size = 0
        self._listing: dict[int, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Ends what is under way."""
        await end(*self._listing.values())

    def clear(self) -> None:
        """Forgets everything: something was erased."""
        self._tenants.clear()
        self._size = 0
        BYTES.set(0)

    def of(self, tenant: Tenant, catalogue_revision: int, segment: str) -> KnownTenant | None:
        """What is known of a catalogue at a revision; None: nothing is to be remembered of it.

        Args:
            segment: whose list is wanted the next time.
        """
        revision = (tenant.version, catalogue_revision)
        known = self._tenants.get(tenant.tenant_no)
        if self._limit <= 0 or (known is not None and known.revision > revision):
            return None
        if known is None or known.revision != revision:
            self._size -= known.counted if known is not None else 0
            known = self._tenants[tenant.tenant_no] = KnownTenant(revision)
        self._tenants.move_to_end(tenant.tenant_no)
        known.answers += 1
        if (
            known.answers >= _WORTH_LISTING
            and tenant.tenant_no not in self._listing
            and known.ranked("segment", segment) is None
        ):
            task = asyncio.create_task(self._list(tenant, known, segment))
            self._listing[tenant.tenant_no] = task
            task.add_done_callback(lambda _: self._listing.pop(tenant.tenant_no, None))
        return known

    def make_room(self, tenant: Tenant) -> None:
        """Drops what is beyond the limit, after something was learned of a tenant."""
        learned = self._tenants.get(tenant.tenant_no)
        if learned is not None:
            self._size += learned.size - learned.counted
            learned.counted = learned.size
        while self._size > self._limit:
            _, known = self._tenants.popitem(last=False)
            self._size -= known.counted
        BYTES.set(self._size)

    async def _list(self, tenant: Tenant, known: KnownTenant, segment: str) -> None:
        try:
            lists, revision = await self._vectors.lists(tenant, segment)
        except PenchantError:
            return  # the next answer tries again, and asks the sources until then
        if revision != known.revision[1]:
            return
        known.lists |= {
            (source, segment if source == "segment" else ""): ranked
            for source, ranked in lists.items()
        }
        known.size = known.size + _OF_A_LISTED * sum(len(r.numbers) for r in lists.values())
