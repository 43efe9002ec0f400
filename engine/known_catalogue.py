"""What a worker remembers of catalogues: entities, and the lists that all users of a tenant share.

All of it is of one revision of the tenant's catalogue and is dropped with the first answer that
knows of another: what is composed of it is what PostgreSQL would have answered.
"""

import asyncio
from collections import OrderedDict
from datetime import datetime

from prometheus_client import Gauge

from engine.known_entities import Blocked, Chosen, KnownEntities
from storage.ending import end
from storage.exceptions import PenchantError
from storage.situations import Neighbours, Recalled, Situation
from storage.tenants import Tenant
from storage.vector_store import Ranked, VectorStore

BYTES = Gauge(
    "penchant_known_catalogue_bytes",
    "Memory of what the workers remember of catalogues.",
    multiprocess_mode="livesum",
)

_OF_A_LISTED = 16  # bytes of a number and a score
_OF_A_LIST = 350  # bytes beside them
_WORTH_KNOWING = 5  # answers of one revision: not who is asked for seldom, or changes all the time
_COUNTED = 10_000  # tenants of which the answers are counted
_HEAD = 4  # times what is wanted of a list
_FAMILIAR = 3  # answers in turn in which nothing was new

Revision = tuple[int, int]
"""The version of the tenant's row and the revision of the catalogue."""


class KnownTenant:
    """What is known of one tenant's catalogue at one revision.

    Attributes:
        entities: with what they look like.
        neighbours: of entities by number.
        lists: by source; those of a segment by ("segment", its name).
        counted: bytes of it in what all tenants take together.
        asked_at: the turn in which it was last asked for.
    """

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.entities = KnownEntities()
        self.neighbours: dict[int, Neighbours] = {}
        self.lists: dict[tuple[str, str], Ranked] = {}
        self._heads: dict[int, Chosen] = {}  # of lists that are kept, so that their ids stay theirs
        self.counted = 0
        self.asked_at = 0
        self._of_lists = self._of_neighbours = 0
        self._was = 0
        self._nothing_new = 0

    @property
    def size(self) -> int:
        """Bytes, as estimated."""
        return self.entities.size + self._of_lists + self._of_neighbours

    @property
    def is_familiar(self) -> bool:
        """Whether nothing new was learned for the last answers, there having been room for it."""
        return self._nothing_new >= _FAMILIAR

    def count(self) -> int:
        """The size as it is now, from now on in what all tenants take together."""
        self.counted = self.size
        return self.counted

    def forget_vectors(self) -> bool:
        """Makes room by what takes most of it; whether there was anything to forget."""
        before = self.size
        self.entities.forget_vectors()
        self.neighbours.clear()
        self._of_neighbours = 0
        self.surprised()
        return self.count() < before

    def answered(self) -> None:
        """Notes that an answer was made, and whether anything was learned for it."""
        self._nothing_new = self._nothing_new + 1 if self.size == self._was else 0
        self._was = self.size

    def surprised(self) -> None:
        """Notes that something was not known that an answer needed."""
        self._nothing_new = 0

    def recalled(self) -> Recalled | None:
        """What the next answer need not read; None: it may well need more."""
        if not self.is_familiar:
            return None
        return Recalled(self.revision[1], self.entities.vectors, self.neighbours)

    def learn(self, situation: Situation) -> None:
        """Takes in what an answer of this revision started from."""
        for item in situation.user.history:
            if item.vector is not None:  # of another one it may not have been read
                self.entities.learn_vector(item.entity_no, item.vector)
        for number, neighbours in situation.neighbours.items():
            if number not in self.neighbours:
                # Copied: what was read holds those of all anchors in one piece.
                own = Neighbours(neighbours.numbers.copy(), neighbours.scores.copy())
                self.neighbours[number] = own
                self._of_neighbours += size_of(own)

    def keep(self, source: str, segment: str, ranked: Ranked) -> None:
        """Takes in a list, if it is not known yet."""
        name = _name_of(source, segment)
        if name not in self.lists:
            self.lists[name] = ranked
            self._of_lists += _OF_A_LIST + _OF_A_LISTED * len(ranked.numbers)

    def best(self, ranked: Ranked, limit: int, blocked: Blocked, at: datetime) -> Chosen | None:
        """See `KnownEntities.best`; of a list that is kept it is known where it begins."""
        head = self._heads.get(id(ranked))
        if head is not None:
            best = self.entities.best_of_head(head, limit, blocked)
            if best is not None:
                return best
        best = self.entities.best(ranked, limit, blocked, at)
        if best is not None and any(ranked is kept for kept in self.lists.values()):
            self._heads[id(ranked)] = self.entities.head(ranked, _HEAD * limit)
        return best

    def ranked(self, source: str, segment: str) -> Ranked | None:
        """A list of this revision, if it is known."""
        return self.lists.get(_name_of(source, segment))


def size_of(neighbours: Neighbours) -> int:
    """Bytes that neighbours take, as estimated."""
    return _OF_A_LIST + neighbours.numbers.nbytes + neighbours.scores.nbytes


def _name_of(source: str, segment: str) -> tuple[str, str]:
    return (source, segment if source == "segment" else "")


class KnownCatalogue:
    """What a worker knows of its tenants' catalogues.

    Args:
        vectors: where lists are read.
        limit: bytes, as estimated; tenants that were not asked for longest go first, and who alone
            has taken them all loses what takes most. 0: nothing is remembered.
        worth: answers of one revision from which on a tenant is remembered; where there is no room,
            only if the tenant that would have to go was not asked for in all that time. Else many
            tenants that are asked for in turn would push one another out before they are of use.
    """

    def __init__(self, vectors: VectorStore, limit: int, *, worth: int = _WORTH_KNOWING) -> None:
        self._vectors = vectors
        self._limit = limit
        self._worth = worth
        self._asked: OrderedDict[int, tuple[Revision, int, int]] = OrderedDict()
        self._turn = 0  # counts what is asked
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
        self._turn += 1
        known = self._tenants.get(tenant.tenant_no)
        if self._limit <= 0 or (known is not None and known.revision > revision):
            return None
        if known is None or known.revision != revision:
            self._forget(tenant)
            if not self._is_worth(tenant, revision):
                return None
            known = self._tenants[tenant.tenant_no] = KnownTenant(revision)
        self._tenants.move_to_end(tenant.tenant_no)
        known.asked_at = self._turn
        if tenant.tenant_no not in self._listing and known.ranked("segment", segment) is None:
            task = asyncio.create_task(self._list(tenant, known, segment))
            self._listing[tenant.tenant_no] = task
            task.add_done_callback(lambda _: self._listing.pop(tenant.tenant_no, None))
        return known

    def _forget(self, tenant: Tenant) -> None:
        known = self._tenants.pop(tenant.tenant_no, None)
        self._size -= known.counted if known is not None else 0

    def _is_worth(self, tenant: Tenant, revision: Revision) -> bool:
        """Counts an answer; whether there were enough of its revision."""
        counted, answers, since = self._asked.pop(tenant.tenant_no, (revision, 0, self._turn))
        if counted != revision:
            answers, since = 0, self._turn
        answers += 1
        if answers >= self._worth:
            if self._has_room() or next(iter(self._tenants.values())).asked_at < since:
                return True
            answers = 0
        self._asked[tenant.tenant_no] = (revision, answers, since if answers else self._turn)
        if len(self._asked) > _COUNTED:
            self._asked.popitem(last=False)
        return False

    def _has_room(self) -> bool:
        """Whether there is room for a tenant of the usual size."""
        return self._size + self._size // max(1, len(self._tenants)) <= self._limit

    def recalled(self, tenant: Tenant) -> Recalled | None:
        """What an answer of the tenant need not read; None: it is to read everything."""
        known = self._tenants.get(tenant.tenant_no)
        if known is None or known.revision[0] != tenant.version:
            return None
        return known.recalled()

    def surprised(self, tenant: Tenant) -> None:
        """Notes that what was recalled of a tenant did not suffice."""
        known = self._tenants.get(tenant.tenant_no)
        if known is not None:
            known.surprised()

    def make_room(self, tenant: Tenant) -> None:
        """Drops what is beyond the limit, after something was learned of a tenant."""
        learned = self._tenants.get(tenant.tenant_no)
        if learned is not None:
            self._size -= learned.counted
            self._size += learned.count()
        while self._size > self._limit:
            known = next(iter(self._tenants.values()))
            self._size -= known.counted
            if known is learned and known.forget_vectors():
                self._size += known.counted
            else:
                self._tenants.popitem(last=False)
        BYTES.set(self._size)

    async def _list(self, tenant: Tenant, known: KnownTenant, segment: str) -> None:
        try:
            lists, revision = await self._vectors.lists(tenant, segment)
        except PenchantError:
            return  # the next answer tries again, and asks the sources until then
        if revision != known.revision[1]:
            return
        for source, ranked in lists.items():
            known.keep(source, segment, ranked)
