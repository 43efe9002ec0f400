"""Requests of InteractionService."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from penchant.requests import parts
from penchant.requests.parts import Ref, entity_ref, one_of, struct
from penchant.v1 import interaction_pb2 as interactions
from penchant.values import Interaction


def interaction(value: Interaction) -> interactions.Interaction:
    """The message of `value`, its `received_at` left out."""
    return interactions.Interaction(
        interaction_id=value.interaction_id,
        **one_of(user_id=value.user_id, session_id=value.session_id),
        entity=entity_ref((value.entity_type, value.entity_id)),
        interaction_type=value.interaction_type,
        weight=value.weight,
        metadata=struct(value.metadata) if value.metadata else None,
        timestamp=parts.timestamp(value.timestamp),
        recommendation_id=value.recommendation_id,
        position=value.position,
    )


def ingest(
    user_id: str | None,
    entity_type: str,
    entity_id: str,
    interaction_type: str,
    *,
    session_id: str | None = None,
    interaction_id: str = "",
    weight: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    timestamp: datetime | None = None,
    recommendation_id: str = "",
    position: int | None = None,
) -> interactions.IngestInteractionRequest:
    """Stores what a user (or, with None, the session `session_id`) did; see Interaction.

    `interaction_id` is filled before the first attempt, so retries store it once.
    """
    value = Interaction(
        user_id=user_id,
        entity_type=entity_type,
        entity_id=entity_id,
        interaction_type=interaction_type,
        session_id=session_id,
        weight=weight,
        metadata=metadata or {},
        timestamp=timestamp,
        recommendation_id=recommendation_id,
        position=position,
        interaction_id=interaction_id or str(uuid4()),
    )
    return interactions.IngestInteractionRequest(interaction=interaction(value))


def list_interactions(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    entity: Ref | None = None,
    interaction_type: str = "",
    page_size: int = 0,
) -> interactions.ListInteractionsRequest:
    """The interactions of one user, session or entity, newest first."""
    return interactions.ListInteractionsRequest(
        **one_of(
            user_id=user_id,
            session_id=session_id,
            entity=None if entity is None else entity_ref(entity),
        ),
        interaction_type=interaction_type,
        page_size=page_size,
    )


def delete_interactions(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    entity: Ref | None = None,
    interaction_ids: Iterable[str] = (),
    before: datetime | None = None,
) -> interactions.DeleteInteractionsRequest:
    """Removes the interactions for which everything given holds, for good."""
    return interactions.DeleteInteractionsRequest(
        user_id=user_id or "",
        session_id=session_id or "",
        entity=None if entity is None else entity_ref(entity),
        interaction_ids=interaction_ids,
        before=parts.timestamp(before),
    )


def merge_users(
    target_user_id: str, *, source_user_id: str | None = None, source_session_id: str | None = None
) -> interactions.MergeUsersRequest:
    """Moves everything of one user or session to `target_user_id`."""
    return interactions.MergeUsersRequest(
        **one_of(source_user_id=source_user_id, source_session_id=source_session_id),
        target_user_id=target_user_id,
    )
