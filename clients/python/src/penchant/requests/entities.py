"""Requests of EntityService."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from penchant.requests.parts import entity_ref, field_mask, struct, timestamp
from penchant.v1 import entity_pb2 as entities
from penchant.values import EntityDraft


def upsert_draft(draft: EntityDraft) -> entities.UpsertEntityRequest:
    """The request that stores `draft`; its mask is the fields that are not None."""
    given = {
        "attributes": draft.attributes,
        "feature_vector": draft.feature_vector,
        "hidden": draft.hidden,
        "available_from": draft.available_from,
        "available_until": draft.available_until,
    }
    paths = draft.update_mask
    if paths is None:
        paths = [name for name, value in given.items() if value is not None]
    return entities.UpsertEntityRequest(
        entity=entities.Entity(
            entity=entity_ref((draft.entity_type, draft.entity_id)),
            attributes=None if draft.attributes is None else struct(draft.attributes),
            feature_vector=draft.feature_vector,
            hidden=bool(draft.hidden),
            available_from=timestamp(draft.available_from),
            available_until=timestamp(draft.available_until),
        ),
        update_mask=field_mask(paths or None),
    )


def upsert_entity(
    entity_type: str,
    entity_id: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    feature_vector: Sequence[float] | None = None,
    hidden: bool | None = None,
    available_from: datetime | None = None,
    available_until: datetime | None = None,
    update_mask: Sequence[str] | None = None,
) -> entities.UpsertEntityRequest:
    """Creates an entity or changes the given fields of an existing one (see EntityDraft)."""
    return upsert_draft(
        EntityDraft(
            entity_type=entity_type,
            entity_id=entity_id,
            attributes=attributes,
            feature_vector=feature_vector,
            hidden=hidden,
            available_from=available_from,
            available_until=available_until,
            update_mask=update_mask,
        )
    )


def batch_upsert_entities(drafts: Iterable[EntityDraft]) -> entities.BatchUpsertEntitiesRequest:
    """Upserts up to 1,000 entities in one transaction."""
    return entities.BatchUpsertEntitiesRequest(requests=map(upsert_draft, drafts))


def get_entity(
    entity_type: str, entity_id: str, *, include_vector: bool = False
) -> entities.GetEntityRequest:
    """One entity; NotFound when the tenant has none of that name."""
    return entities.GetEntityRequest(
        entity=entity_ref((entity_type, entity_id)), include_vector=include_vector
    )


def list_entities(
    *, entity_type: str = "", filter: str = "", page_size: int = 0
) -> entities.ListEntitiesRequest:
    """All entities in byte order of type and id, fetched `page_size` (50 when 0) at a time."""
    return entities.ListEntitiesRequest(entity_type=entity_type, filter=filter, page_size=page_size)


def delete_entity(entity_type: str, entity_id: str) -> entities.DeleteEntityRequest:
    """Removes an entity for good; its interactions stay in the log."""
    return entities.DeleteEntityRequest(entity=entity_ref((entity_type, entity_id)))
