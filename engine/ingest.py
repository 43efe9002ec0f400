"""Interactions in and out: drafts are checked, completed and stored once."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import msgpack

from engine.catalogue import check_key, encode_json
from engine.drafts import InteractionDraft
from engine.freshness import encode_freshness
from engine.group_commit import GroupCommit
from engine.identifiers import check_id, check_timestamp, check_weight
from engine.tenants import TenantDirectory
from engine.tombstones import Tombstones, user_erased
from storage.exceptions import AlreadyExists, InvalidArgument, NotFound, PenchantError
from storage.interactions import IngestOutcome, InteractionRow, InteractionStore
from storage.tenants import Tenant

SESSION_PREFIX = "session:"
MAX_BATCH = 10_000
_INLINE_ROWS = 200  # beyond, checking would hold the event loop for over 5 ms
_NEWEST = (datetime(9999, 12, 31, tzinfo=UTC), "")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Ack:
    """An interaction is committed. Not frozen, for speed alone, as drafts."""

    interaction_id: str
    received_at: datetime
    freshness_token: str
    duplicate: bool


def subject(
    user_id: str,
    session_id: str,
    *,
    required: bool = True,
    fields: tuple[str, str] = ("user_id", "session_id"),
) -> str:
    """The stored user id of a user or an anonymous session; "" for neither where that is allowed.

    Args:
        fields: the paths of the two in the request.

    Raises:
        InvalidArgument: both or (where required) neither are given, or the id is malformed.
    """
    user_field, session_field = fields
    if user_id and session_id:
        raise InvalidArgument.field(session_field, f"excludes {user_field}: give one of them")
    if session_id:
        check_id(session_id, session_field)
        return check_id(SESSION_PREFIX + session_id, session_field)
    if user_id:
        if user_id.startswith(SESSION_PREFIX):
            raise InvalidArgument.field(
                user_field, f"must not begin with {SESSION_PREFIX!r}; use {session_field}"
            )
        return check_id(user_id, user_field)
    if required:
        raise InvalidArgument.field(user_field, f"is required, or {session_field}")
    return ""


def _micros(value: datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND


def _payload_hash(draft: InteractionDraft, metadata: str | None, packer: msgpack.Packer) -> bytes:
    parts = (
        draft.user_id, draft.entity_type, draft.entity_id, draft.interaction_type, draft.weight,
        metadata, None if draft.timestamp is None else _micros(draft.timestamp),
        draft.recommendation_id, draft.position,
    )  # fmt: skip
    return blake2b(packer.pack(parts), digest_size=16).digest()


def _check(
    tenant: Tenant,
    draft: InteractionDraft,
    now: datetime,
    tombstones: Tombstones,
    packer: msgpack.Packer,
) -> InteractionRow:
    if draft.interaction_id:
        check_id(draft.interaction_id, "interaction.interaction_id")
    check_key(draft.entity_type, draft.entity_id, "interaction.entity")
    kind = tenant.interaction_types.get(draft.interaction_type)
    if kind is None:
        check_id(draft.interaction_type, "interaction.interaction_type")
        known = ", ".join(sorted(tenant.interaction_types)) or "none"
        raise InvalidArgument.field(
            "interaction.interaction_type",
            f"the tenant has no type {draft.interaction_type!r}; it has: {known}",
            reason="UNKNOWN_INTERACTION_TYPE",
        )
    weight = (
        kind.weight if draft.weight is None else check_weight(draft.weight, "interaction.weight")
    )
    timestamp = now
    if draft.timestamp is not None:
        timestamp = check_timestamp(draft.timestamp, now, "interaction.timestamp")
    if draft.recommendation_id:
        check_id(draft.recommendation_id, "interaction.recommendation_id")
    if draft.position is not None and draft.position < 0:
        raise InvalidArgument.field("interaction.position", "must not be negative")
    metadata = encode_json(draft.metadata, "interaction.metadata") if draft.metadata else None
    user_hash = entity_hash = None
    if tenant.has_erased_users:
        user_hash = tombstones.hash(tenant.tenant_id, draft.user_id)
        entity_hash = tombstones.hash_entity(tenant.tenant_id, draft.entity_type, draft.entity_id)
    # By place: names double what it takes to make one.
    return InteractionRow(
        draft.interaction_id or str(uuid.uuid4()), draft.user_id, draft.entity_type,
        draft.entity_id, draft.interaction_type, weight, timestamp, metadata,
        draft.recommendation_id or None, draft.position, _payload_hash(draft, metadata, packer),
        weight != 0 or kind.marks_seen, None, user_hash, entity_hash,
    )  # fmt: skip


def _refusal(row: InteractionRow, outcome: IngestOutcome) -> PenchantError:
    if outcome.status == "erased":
        return user_erased()
    if outcome.status == "unknown_entity":
        return NotFound(
            f"There is no entity {row.entity_id!r} of type {row.entity_type!r}, "
            "and the tenant refuses unknown ones.",
            reason="ENTITY_NOT_FOUND",
            metadata={"entity_type": row.entity_type, "entity_id": row.entity_id},
        )
    return AlreadyExists(
        f"The interaction id {row.interaction_id!r} is stored with other content.",
        reason="INTERACTION_ID_REUSED",
        metadata={"interaction_id": row.interaction_id},
    )


class InteractionLog:
    """A tenant's interactions."""

    def __init__(
        self, tenants: TenantDirectory, interactions: InteractionStore, tombstones: Tombstones
    ) -> None:
        self._tenants = tenants
        self._interactions = interactions
        self._tombstones = tombstones
        self._groups: GroupCommit[InteractionDraft, Ack] = GroupCommit(self.ingest)

    async def ingest_one(
        self, tenant: Tenant, draft: InteractionDraft, deadline: float | None = None
    ) -> Ack:
        """Stores one interaction, in one transaction with others that arrive at the same time.

        Args:
            deadline: monotonic time at which the caller stops waiting.

        Raises:
            ResourceExhausted: too many of the tenant wait already.
            DeadlineExceeded: the deadline came while it waited; it is not stored.
        """
        if not draft.interaction_id:
            # Before anything: rows of a group that failed are stored again, and must not be twice.
            draft = replace(draft, interaction_id=str(uuid.uuid4()))
        return await self._groups.put(tenant, draft, deadline)

    async def ingest(
        self, tenant: Tenant, drafts: Sequence[InteractionDraft | PenchantError]
    ) -> list[Ack | PenchantError]:
        """Stores a batch in one transaction; what is wrong with one row is that row's result.

        A row that is an error already (it did not parse) stays one.
        """
        known = tenant.interaction_types
        if any(
            isinstance(draft, InteractionDraft) and draft.interaction_type not in known
            for draft in drafts
        ):
            # Perhaps a type that was just made: a batch of nothing else meets no statement's guard.
            tenant = await self._tenants.reread(tenant.tenant_id)
        return await self._tenants.run(tenant, lambda t: self._ingest(t, drafts))

    async def _ingest(
        self, tenant: Tenant, drafts: Sequence[InteractionDraft | PenchantError]
    ) -> list[Ack | PenchantError]:
        now = datetime.now(UTC)
        checked = (
            _check_all(tenant, drafts, now, self._tombstones)
            if len(drafts) <= _INLINE_ROWS
            else await asyncio.to_thread(_check_all, tenant, drafts, now, self._tombstones)
        )
        rows = [row for row in checked if isinstance(row, InteractionRow)]
        outcomes = iter(await self._interactions.ingest(tenant, rows) if rows else ())
        tokens = _Tokens(tenant)
        return [
            row if isinstance(row, PenchantError) else _ack(row, next(outcomes), tokens)
            for row in checked
        ]

    async def page(
        self,
        tenant: Tenant,
        *,
        user_id: str = "",
        entity: tuple[str, str] | None = None,
        interaction_type: str,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[InteractionRow]:
        """Interactions of a stored user id or an entity, newest first, before a position."""
        kind = check_id(interaction_type, "interaction_type") if interaction_type else None
        start = before or _NEWEST
        if entity is not None:
            key = check_key(*entity)
            return await self._tenants.run(
                tenant,
                lambda t: self._interactions.page_by_entity(
                    t, key, interaction_type=kind, before=start, limit=limit
                ),
            )
        return await self._tenants.run(
            tenant,
            lambda t: self._interactions.page_by_user(
                t, user_id, interaction_type=kind, before=start, limit=limit
            ),
        )

    async def delete(
        self,
        tenant: Tenant,
        *,
        user_id: str,
        entity: tuple[str, str] | None,
        interaction_ids: Sequence[str],
        before: datetime | None,
    ) -> tuple[int, str]:
        """Removes what satisfies every given condition; returns how many, and the token."""
        if not (user_id or entity or interaction_ids):
            raise InvalidArgument.field(
                "user_id", "is required, or session_id, entity or interaction_ids"
            )
        if len(interaction_ids) > 1000:
            raise InvalidArgument.field("interaction_ids", "has more than 1000 entries")
        for index, interaction_id in enumerate(interaction_ids):
            check_id(interaction_id, f"interaction_ids[{index}]")
        key = check_key(*entity) if entity else None
        count, transaction_id = await self._tenants.run(
            tenant,
            lambda t: self._interactions.delete(
                t,
                user_id=user_id or None,
                entity=key,
                interaction_ids=list(interaction_ids) or None,
                before=before,
            ),
        )
        return count, encode_freshness(tenant, transaction_id)

    async def merge(self, tenant: Tenant, source: str, target: str) -> tuple[int, str]:
        """Moves a stored user id's interactions to another; returns how many, and the token.

        Raises:
            FailedPrecondition: one of the two was erased (USER_ERASED).
        """
        if source == target:
            raise InvalidArgument.field("target_user_id", "is the source itself")

        async def merge(now: Tenant) -> tuple[int, int] | None:
            hashes = [
                self._tombstones.hash(now.tenant_id, user_id)
                for user_id in ((source, target) if now.has_erased_users else ())
            ]
            return await self._interactions.merge(now, source, target, hashes)

        merged = await self._tenants.run(tenant, merge)
        if merged is None:
            raise user_erased()
        count, transaction_id = merged
        return count, encode_freshness(tenant, transaction_id)


def _check_all(
    tenant: Tenant,
    drafts: Sequence[InteractionDraft | PenchantError],
    now: datetime,
    tombstones: Tombstones,
) -> list[InteractionRow | PenchantError]:
    checked: list[InteractionRow | PenchantError] = []
    packer = msgpack.Packer()
    for draft in drafts:
        if isinstance(draft, PenchantError):
            checked.append(draft)
            continue
        try:
            checked.append(_check(tenant, draft, now, tombstones, packer))
        except InvalidArgument as error:
            checked.append(error)
    return checked


class _Tokens(dict[int, str]):
    """Freshness tokens by transaction: rows of a batch mostly share one."""

    def __init__(self, tenant: Tenant) -> None:
        super().__init__()
        self._tenant = tenant

    def __missing__(self, transaction_id: int) -> str:
        token = self[transaction_id] = encode_freshness(self._tenant, transaction_id)
        return token


def _ack(row: InteractionRow, outcome: IngestOutcome, tokens: _Tokens) -> Ack | PenchantError:
    if outcome.received_at is None:
        return _refusal(row, outcome)
    return Ack(
        row.interaction_id,
        outcome.received_at,
        tokens[outcome.transaction_id],
        outcome.status == "duplicate",
    )
